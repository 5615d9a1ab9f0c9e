"""What Prefect costs: a pipeline that is served from the cache, as a flow and as plain calls of the same stages."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.pairs import Pair
from flows.local_server import local_server
from tasks.config import PipelineConfig
from tasks.pipeline import STEPS, Pipeline
from tasks.stage import execute

SHORT = {
    "store.url": "memory://orchestration", "tokenizer.training.num_steps": 2, "prior.training.num_steps": 2,
    "sample.num_per_class": 1, "evaluate.num_images": 20, "evaluate.classifier.num_steps": 2,
}  # fmt: skip


def pairs() -> Iterator[Pair]:
    """Both are warm: the first call of each builds everything, the measured ones build nothing."""
    with local_server():
        from flows.end_to_end import end_to_end  # noqa: PLC0415 - after the server's environment is set

        yield Pair(
            name="the digits pipeline, all cached",
            unit="stages/s",
            count=len(STEPS),
            ours=lambda: end_to_end(preset="digits", overrides=SHORT),
            plain=_plain,
        )


def _plain() -> None:
    pipeline = Pipeline(PipelineConfig.preset("digits", SHORT))
    for stage in STEPS:
        execute(pipeline.request(stage), pipeline.store)
