"""What a config would do to a store: which stages are cached, which would run, and what they would cost.

A plan computes nothing and writes nothing: it lists the source, reads manifests and the traces of earlier runs, counts
operations of networks that are never allocated, and multiplies matrices for a fifth of a second to learn how fast the
device is. What is already there costs nothing any more, and of a stage that was begun only the rest is counted.

PFLOP are 10^15 operations, a multiply-add is two. GB are 10^9 bytes that the store grows by while the stage runs. What
cannot be known is None, and the note says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datasets.config import TorchvisionSource
from datasets.store import Artifact
from datasets.store.lineage import find_artifact
from tasks.config import PipelineConfig
from tasks.device_rate import expected_rate, matmul_flops_per_second
from tasks.estimates import Estimate, Estimates, Extent
from tasks.expected_columns import check_columns, expected_columns
from tasks.models import tokenizer_config
from tasks.pipeline import Pipeline, Step, steps_of
from tasks.stage import Headway, Request
from tasks.start import prior_start, tokenizer_start
from vqgan_core.training import resolve_device
from vqgan_core.training.precision import Precision

SECONDS_AN_HOUR = 3600.0


def plan_rows(config: PipelineConfig) -> list[dict[str, Any]]:
    """One row a stage, in order: stage, state, fingerprint, parameters, PFLOP, hours, GB, note.

    The state is `cached` (published: nothing to do), `would run` (its inputs are published), or `waits for STAGE`: that
    stage makes its input first, and what it makes is part of the fingerprint, which is therefore None.

    Raises:
        SourceError: the source cannot be listed.
        StoreError: the store cannot be read, or has nothing that an init_from names.
        ValueError: sizes that do not fit together, as the stage itself would say.
    """
    tokenizer_start(config)  # also of a stage that still waits for its input
    prior_start(config)
    planner = _Planner(config)
    return [planner.row(step) for step in steps_of(config)]


def _without_downloads(config: PipelineConfig) -> PipelineConfig:
    """The same config of a source that is not fetched: a plan writes nothing."""
    source = config.shard.source
    if not isinstance(source, TorchvisionSource):
        return config
    here = source.model_copy(update={"download": False})
    return config.model_copy(update={"shard": config.shard.model_copy(update={"source": here})})


@dataclass(frozen=True)
class _Time:
    hours: float | None
    note: str


class _Planner:
    """Walks the stages in order and remembers which artifacts are still to be made."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._pipeline = Pipeline(_without_downloads(config))
        self._makers: dict[str, str] = {}
        self._rates: dict[tuple[str, Precision, int | None], float] = {}

    def row(self, step: Step) -> dict[str, Any]:
        """What would happen to a stage."""
        waits_for = [stage for kind, stage in self._makers.items() if kind in step.reads]
        estimate = self._estimates_for(step.section).of(step.stage.name)
        if waits_for:
            self._makers[step.stage.kind] = step.name
            return self._cost_row(step, f"waits for {waits_for[-1]}", None, estimate, None)
        request = step.request(self._pipeline)
        found = self._pipeline.store.lookup(step.stage.kind, request.fingerprint)
        if found is not None:
            return _cached_row(step, found, estimate)
        self._makers[step.stage.kind] = step.name
        return self._cost_row(step, "would run", request.fingerprint, estimate, self._headway(request))

    def _headway(self, request: Request) -> Headway | None:
        if request.headway is None:
            return None
        store = self._pipeline.store
        headway = request.headway(store, store.workspace(request.stage.kind, request.fingerprint))
        return headway if headway.done else None

    def _estimates_for(self, section: str) -> Estimates:
        """Those of the pipeline; with a section of condition_tokenizers in place of the images' tokenizer if told."""
        if not section:
            return self._estimates
        return Estimates(
            self._config.model_copy(update={"tokenizer": self._config.condition_tokenizers[section]}), self._extent
        )

    @cached_property
    def _estimates(self) -> Estimates:
        check_columns(self._config)
        store = self._pipeline.store
        columns = expected_columns(self._config, lambda name: tokenizer_config(find_artifact(store, name, "tokenizer")))
        return Estimates(self._config, self._extent, columns)

    @property
    def _extent(self) -> Extent:
        """Asked for once, by the first stage: its corpus' own count if it is published, else what the source lists."""
        request = self._pipeline.shard_request
        corpus = self._pipeline.store.lookup(request.stage.kind, request.fingerprint)
        if corpus is not None:
            summary = corpus.manifest.summary
            return Extent(summary["splits"]["train"], summary["splits"]["val"], summary["num_classes"])
        listing = self._pipeline.listing
        num_val = round(len(listing) * self._config.shard.validation_fraction)
        return Extent(len(listing) - num_val, num_val, len(listing.class_names))

    def _cost_row(
        self, step: Step, state: str, fingerprint: str | None, estimate: Estimate, headway: Headway | None
    ) -> dict[str, Any]:
        left = 1.0 if headway is None else 1 - headway.done / headway.total
        time = self._time(step, estimate)
        notes = [time.note] if time.note else []
        if headway is not None:
            notes.insert(0, f"{headway.done:,} of {headway.total:,} {headway.unit} are there")
        return {
            "stage": step.name,
            "state": state,
            "fingerprint": fingerprint,
            "parameters": estimate.num_parameters,
            "PFLOP": left * sum(estimate.flops.values()) / 1e15 if estimate.flops else None,
            "hours": None if time.hours is None else left * time.hours,
            "GB": left * estimate.bytes / 1e9,
            "note": "; ".join(notes),
        }

    def _time(self, step: Step, estimate: Estimate) -> _Time:
        """From operations to hours: the device's measured rate, times what each kind of work reaches of it."""
        if not estimate.flops:
            extent = self._extent
            return _Time(None, f"{extent.num_images:,} images; how long they take to decode depends on what they are")
        config = self._config.condition_tokenizers.get(step.section)
        execution = (config or getattr(self._config, _SECTIONS[step.stage.name])).execution
        try:
            device = resolve_device(execution.device)
        except ValueError as error:
            return _Time(None, f"hours unknown: {error}")
        key = (str(device), estimate.precision, execution.num_threads)
        if key not in self._rates:
            self._rates[key] = matmul_flops_per_second(device, estimate.precision, execution.num_threads)
        rate = self._rates[key]
        seconds = sum(flops / expected_rate(kind, device, rate) for kind, flops in estimate.flops.items())
        reached = sum(estimate.flops.values()) / seconds
        return _Time(
            seconds / SECONDS_AN_HOUR,
            f"{device} {estimate.precision}: {reached / 1e9:,.0f} of {rate / 1e9:,.0f} GFLOP/s expected",
        )


#: Section of the config that says how a stage runs.
_SECTIONS = {
    "train_tokenizer": "tokenizer",
    "encode": "encode",
    "train_prior": "prior",
    "sample": "sample",
    "evaluate": "evaluate",
}


def _cached_row(step: Step, artifact: Artifact, estimate: Estimate) -> dict[str, Any]:
    return {
        "stage": step.name,
        "state": "cached",
        "fingerprint": artifact.manifest.fingerprint,
        "parameters": estimate.num_parameters,
        "PFLOP": 0.0,
        "hours": 0.0,
        "GB": 0.0,
        "note": str(artifact.manifest.summary.get("headline", "")),
    }
