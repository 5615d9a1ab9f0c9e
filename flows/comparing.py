"""How a flow compares its candidate with what is current, shows both side by side, and promotes the candidate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.artifacts import create_table_artifact

from datasets.store import Artifact
from flows.run import StageRunner
from tasks.artifact_page import artifact_key
from tasks.gates import Gate
from tasks.pipeline import Pipeline
from tasks.promotion import current_evaluation, input_named, judge, promote_judged
from tasks.report.wording import number


@dataclass(frozen=True)
class Verdict:
    """What came of a candidate."""

    gates: Sequence[Gate]
    promoted: bool

    @property
    def passed(self) -> bool:
        """Whether it may be promoted."""
        return all(gate.passed for gate in self.gates)


def compare(run: StageRunner, pipeline: Pipeline, name: str, candidate: Artifact, *, promote: bool) -> Verdict:
    """Judge a candidate's evaluation against the current one over the same corpus, and promote it if told and passed.

    Args:
        run: runs what has to be evaluated for it.
        pipeline: of the candidate.
        name: the pointer.
        candidate: an evaluation.
        promote: switch the pointer if every gate is passed.
    """
    number, current = current_evaluation(run.store, name)
    baseline = None if current is None else _over_the_same_corpus(run, pipeline, current, candidate)
    judged = judge(candidate, baseline, pipeline.config.promote)
    promoted = promote and promote_judged(run.store, name, candidate, judged, instead_of=number) is not None
    _show(name, candidate, baseline, judged)
    return Verdict(judged, promoted)


def _over_the_same_corpus(run: StageRunner, pipeline: Pipeline, current: Artifact, candidate: Artifact) -> Artifact:
    """The current models' evaluation over the candidate's corpus: the one there is, or a new one."""
    if input_named(current, "corpus") == input_named(candidate, "corpus"):
        return current
    given = {kind: input_named(current, kind).fingerprint for kind in ("tokenizer", "prior", "samples")}
    given["corpus"] = input_named(candidate, "corpus").fingerprint
    given["tokens"] = run(Pipeline(pipeline.config, given).request("encode")).manifest.fingerprint
    return run(Pipeline(pipeline.config, given).request("evaluate"))


def _show(name: str, candidate: Artifact, baseline: Artifact | None, judged: Sequence[Gate]) -> None:
    """A table of both, on the run's page."""
    ours = _written(candidate)
    theirs = {} if baseline is None else _written(baseline)
    rows = [
        {"metric": metric, "candidate": ours.get(metric, ""), "current": theirs.get(metric, "")}
        for metric in dict.fromkeys((*ours, *theirs))
    ]
    create_table_artifact(
        rows,
        key=f"{artifact_key(candidate.manifest)}-compared",
        description=f"candidate for {name} beside what is current · " + "; ".join(map(str, judged)),
    )


def _written(evaluation: Artifact) -> dict[str, str]:
    """Each metric's value and n."""
    rows = json.loads(evaluation.read("metrics.json"))
    return {row["name"]: f"{number(row['value'])} (n = {row['n']:,})" for row in rows}
