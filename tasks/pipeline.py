"""The six stages in order: what each reads, and how a config becomes their requests one after another.

A request can be made only when its inputs are published, because it is keyed by their digests. So the pipeline is
walked: ask for a stage's request, run it, ask for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from datasets.sources import Listing, open_source
from datasets.store import Artifact, Store, StoreError
from datasets.store.lineage import find_artifact
from tasks import encode, evaluate, sample, shard, train_prior, train_tokenizer
from tasks.config import PipelineConfig
from tasks.generations import find_parent
from tasks.models import prior_config
from tasks.stage import Request, Stage
from tasks.start import prior_start, tokenizer_start
from tasks.subjects import Subjects
from vqgan_core.config import PlaneCondition


class NotPublished(StoreError):  # noqa: N818 - says what is the case, as ArtifactMissing does
    """A stage's input does not exist yet."""


@dataclass(frozen=True)
class Step:
    """A stage in the pipeline: its identity, the kinds of artifacts it reads, and its request."""

    stage: Stage
    reads: tuple[str, ...]
    request: Callable[[Pipeline], Request]
    section: str = ""
    """Which of condition_tokenizers; empty: the stage's own section of the config."""

    @property
    def name(self) -> str:
        """What the step is called in tables."""
        return f"{self.stage.name} · {self.section}" if self.section else self.stage.name

    @property
    def command(self) -> str:
        """The stage's name on the command line."""
        return self.stage.name.replace("_", "-")


class Pipeline:
    """A config's stages over one store.

    Args:
        config: the whole pipeline's config.
        given: artifacts to read instead of those that the config's own stages make: kind → fingerprint, unique
            beginning of one, or URI. Kinds are those of artifacts, and `top_prior`.
    """

    def __init__(self, config: PipelineConfig, given: Mapping[str, str | None] | None = None) -> None:
        self.config = config
        self.store = Store.open(config.store)
        self._given = {kind: name for kind, name in (given or {}).items() if name}
        self._found: dict[str, Artifact] = {}

    def request(self, stage: str) -> Request:
        """The request of a stage by name.

        Raises:
            NotPublished: an input is not there yet; says which command makes it.
        """
        return STEPS[stage].request(self)

    def of_samples(self, prior: Artifact) -> dict[str, Artifact]:
        """What samples of a prior are made from beside prior and tokenizer.

        An evaluation comes later in the pipeline: another run's is read if it was given.
        """
        found = {}
        if "tokens" in sample.reads(self.config.sample):
            found["tokens"] = self.artifact("tokens")
        if name := self._given.get("top_prior"):
            found["top_prior"] = find_artifact(self.store, name, "prior")
        elif "tokens" not in found and (told := self.told(prior)) is not None:
            found["tokens"] = told
        if "evaluation" in self._given:
            found["evaluation"] = self.artifact("evaluation")
        return found

    def artifact(self, kind: str) -> Artifact:
        """A published artifact of this pipeline: a given one, or the one that its stage's request names.

        Raises:
            NotPublished: it is not there yet; says which command makes it.
        """
        if kind in self._found:  # it never changes
            return self._found[kind]
        if name := self._given.get(kind):
            self._found[kind] = find_artifact(self.store, name, kind)
            return self._found[kind]
        step = next(step for step in STEPS.values() if step.stage.kind == kind)
        request = step.request(self)
        found = self.store.lookup(kind, request.fingerprint)
        if found is None:
            raise NotPublished(
                f"this config's {kind} artifact ({request.fingerprint[:12]}) is not in {self.config.store.url} yet: "
                f"run `tessera {step.command}` with the same config first, or `tessera run` for everything"
            )
        self._found[kind] = found
        return found

    def condition_request(self, name: str) -> Request:
        """The request of a tokenizer in condition_tokenizers."""
        section = self.config.condition_tokenizers[name]
        return train_tokenizer.request(section, self.artifact("corpus"), tokenizer_start(self.config, section))

    def condition_tokenizers(self) -> dict[str, Artifact]:
        """The tokenizer of each condition that has one of its own.

        Raises:
            NotPublished: one is not there yet; says which command makes it.
        """
        found = {}
        for column, condition in self.config.encode.conditions.items():
            if isinstance(condition, PlaneCondition) and (name := condition.tokenizer) is not None:
                found[column] = self._condition_tokenizer(name)
        return found

    def _condition_tokenizer(self, name: str) -> Artifact:
        if name not in self.config.condition_tokenizers:
            return find_artifact(self.store, name, "tokenizer")
        request = self.condition_request(name)
        found = self.store.lookup("tokenizer", request.fingerprint)
        if found is None:
            raise NotPublished(
                f"condition_tokenizers.{name} ({request.fingerprint[:12]}) is not in {self.config.store.url} yet: run "
                f"`tessera train-tokenizer` with the same config and condition_tokenizer {name}, or `tessera run` for "
                "everything"
            )
        return found

    def told(self, prior: Artifact) -> Artifact | None:
        """The token dataset that a prior's samples are told records of; None where it is told no columns.

        That is a given one, or else the one that a given prior was trained on (if it was trained here), or else this
        pipeline's own.
        """
        if not prior_config(prior)[0].condition_columns:
            return None
        trained_on = [ref for ref in prior.manifest.inputs if ref.kind == "tokens"]
        if "prior" not in self._given or "tokens" in self._given or not trained_on:
            return self.artifact("tokens")
        return find_artifact(self.store, trained_on[0].fingerprint, "tokens")

    @cached_property
    def listing(self) -> Listing:
        """What the source holds; listed once."""
        return open_source(self.config.shard.source, self.config.shard.pairs).list()

    @cached_property
    def shard_request(self) -> Request:
        """The shard stage's request."""
        parent = find_parent(self.config.shard, self.listing, self.store)
        return shard.request(self.config.shard, self.listing, parent)


STEPS: Mapping[str, Step] = {
    step.stage.name: step
    for step in (
        Step(shard.STAGE, (), lambda p: p.shard_request),
        Step(
            train_tokenizer.STAGE,
            ("corpus",),
            lambda p: train_tokenizer.request(p.config.tokenizer, p.artifact("corpus"), tokenizer_start(p.config)),
        ),
        Step(
            encode.STAGE,
            ("corpus", "tokenizer"),
            lambda p: encode.request(
                p.config.encode, p.artifact("corpus"), p.artifact("tokenizer"), p.condition_tokenizers()
            ),
        ),
        Step(
            train_prior.STAGE,
            ("tokens",),
            lambda p: train_prior.request(p.config.prior, p.artifact("tokens"), prior_start(p.config)),
        ),
        Step(
            sample.STAGE,
            ("prior", "tokenizer"),
            lambda p: sample.request(
                p.config.sample, p.artifact("prior"), p.artifact("tokenizer"), **p.of_samples(p.artifact("prior"))
            ),
        ),
        Step(
            evaluate.STAGE,
            ("corpus", "tokenizer", "tokens", "prior", "samples"),
            lambda p: evaluate.request(p.config.evaluate, Subjects.of(p.artifact), p.config.name),
        ),
    )
}


def steps_of(config: PipelineConfig) -> list[Step]:
    """The steps of a config: the stages, and after the tokenizer's those of its condition tokenizers."""
    told = [
        Step(train_tokenizer.STAGE, ("corpus",), partial(Pipeline.condition_request, name=name), name)
        for name in config.condition_tokenizers
    ]
    steps = list(STEPS.values())
    after = 1 + steps.index(STEPS[train_tokenizer.STAGE.name])
    return [*steps[:after], *told, *steps[after:]]
