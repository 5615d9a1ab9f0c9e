"""Stage evaluate: everything that was made → metrics, each with what it depends on, and one page to look at.

The unit that survives a kill is one group of metrics: reconstruction, likelihood, the domain classifier, samples; in
the features of given networks, 500 images. report.html and its short form summary.md hold times and costs, so they
are views: checked like files, but not part of the digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from datasets.store import Store, Workspace
from tasks.columns import check_compatible
from tasks.evaluation_distances import distances, statistics_parts
from tasks.evaluation_page import pages
from tasks.evaluation_units import UNITS, Bench
from tasks.models import prior_config, require_own_tokenizer
from tasks.report.wording import percent
from tasks.stage import Headway, Product, Request, Stage, Work, input_of
from tasks.subjects import Subjects
from vqgan_core.config import EvaluateConfig, canonical_json
from vqgan_core.evaluation import Metric, build_extractor
from vqgan_core.training import prepare, resolve_device

STAGE = Stage("evaluate", "4", "evaluation")


def request(config: EvaluateConfig, subjects: Subjects, name: str) -> Request:
    """Ask for the evaluation of a pipeline's artifacts; `name` is only a title."""
    inputs = tuple(map(input_of, subjects.in_order()))
    build, headway = partial(_build, config, subjects, name), partial(_headway, config)
    return Request(STAGE, config.recipe(), inputs, build, "evaluate", headway)


def _build(config: EvaluateConfig, subjects: Subjects, name: str, work: Work) -> Product:
    device = resolve_device(config.execution.device)
    prepare(device, num_threads=config.execution.num_threads)
    bench = Bench(config, subjects, device)
    _refuse_mixtures(bench)
    for extractor in config.extractors:  # before hours of other groups: are these weights there, and do they fit?
        build_extractor(extractor, device)
    results: dict[str, Any] = {}
    groups = _groups(config)
    with work.reporter.bar("evaluate", len(groups), "groups") as bar:
        for done, (title, measure) in enumerate(groups.items(), start=1):
            results[title] = _once(work, _kept_as(title), partial(measure, bench, work))
            bar.update(done)
    metrics = [Metric.model_validate(row) for result in results.values() for row in result["metrics"]]
    files = {"metrics.json": canonical_json([metric.model_dump(mode="json") for metric in metrics])}
    files |= {
        path: data for path in ("classifier.json", "classifier.safetensors") if (data := work.workspace.get(path))
    }
    return Product(
        files=files,
        parts=statistics_parts(work.workspace),
        views=pages(bench, metrics, name),
        summary=_summary(metrics),
        device=str(device),
    )


def _refuse_mixtures(bench: Bench) -> None:
    """Any artifact can be given by its fingerprint; numbers over what does not belong together would be nonsense.

    Raises:
        TokenMismatch: the tokens, or what the prior was trained on, are of another tokenizer.
        ValueError: the samples are of another prior.
    """
    subjects = bench.subjects
    spec = require_own_tokenizer(subjects.prior, subjects.tokenizer)
    config, _ = prior_config(subjects.prior)
    check_compatible(bench.tokens, config, spec)
    if input_of(subjects.prior) not in subjects.samples.manifest.inputs:
        raise ValueError(
            f"the samples {subjects.samples.manifest.fingerprint[:12]} were not drawn from the prior "
            f"{subjects.prior.manifest.fingerprint[:12]}: give samples of it (tessera show names theirs)"
        )


def _groups(config: EvaluateConfig) -> Mapping[str, Callable[[Bench, Work], list[Metric]]]:
    return {**UNITS, "distances": distances} if config.extractors else UNITS


def _headway(config: EvaluateConfig, _store: Store, workspace: Workspace) -> Headway:
    there, groups = set(workspace.names()), _groups(config)
    return Headway(sum(_kept_as(title) in there for title in groups), len(groups), "groups of metrics")


def _kept_as(title: str) -> str:
    return f"metrics-{title}.json"


def _once(work: Work, name: str, measure: Callable[[], Sequence[Metric]]) -> Mapping[str, Any]:
    """A group's result from a dead run, or measured now and kept."""
    if (data := work.workspace.get(name)) is None:
        work.lease.check()
        data = canonical_json({"metrics": [metric.model_dump(mode="json") for metric in measure()]})
        work.workspace.put(name, data)
    result: Mapping[str, Any] = json.loads(data)
    return result


def _summary(metrics: Sequence[Metric]) -> dict[str, Any]:
    found = {metric.name: metric for metric in metrics}
    shown: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("PSNR", "PSNR", "{:.1f} dB".format),
        ("codebook usage", "usage", percent),
        ("classifier accuracy, samples", "samples", percent),
    )
    told = [(f"{word} {written(found[name].value)}", found[name].n) for name, word, written in shown if name in found]
    parts = [f"{', '.join(text for text, _ in some)} (n = {n:,})" for n, some in groupby(told, key=itemgetter(1))]
    return {"headline": ", ".join(parts), "metrics": {metric.name: metric.value for metric in metrics}}
