"""Stage train_prior: token dataset → prior (weights, config, curves). No image is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets.store import Artifact
from datasets.token_stream import open_tokens
from tasks.columns import reads, spec_of
from tasks.models import load_prior, require_its_tokens
from tasks.stage import Product, Request, Stage, Work, input_of
from tasks.start import require_opened
from tasks.stopwatch import NAME as SECONDS
from tasks.stopwatch import Stopwatch
from tasks.together import join_training, train_together
from tasks.training import run_training, training_headway
from vqgan_core import distributed
from vqgan_core.config import TrainPriorConfig
from vqgan_core.training import TrainResult, history_bytes, prepare, resolve_device
from vqgan_core.training.prior_step import PriorStep

STAGE = Stage("train_prior", "3", "prior")
LABEL = "train prior"


def request(config: TrainPriorConfig, tokens: Artifact, start: Artifact | None = None) -> Request:
    """Ask for a prior trained on a token dataset, from new weights or those of another prior (`tasks.start`).

    Raises:
        ValueError: init_from names a prior, but none is given.
        TokenMismatch: that prior reads another tokenizer's tokens.
    """
    require_opened(config.init_from, start)
    if start is not None:
        require_its_tokens(start, tokens)
    label = f"train prior · {config.num_layers} layers · width {config.width}"
    build, headway = partial(_build, config, tokens, start), partial(training_headway, config.training)
    inputs = (input_of(tokens),) if start is None else (input_of(tokens), input_of(start))
    join = partial(join_training, partial(_trained, config, tokens, start), config.training, config.execution, LABEL)
    return Request(
        STAGE, config.recipe(), inputs, build, label, headway, join if config.execution.num_nodes > 1 else None
    )


def _build(config: TrainPriorConfig, artifact: Artifact, start: Artifact | None, work: Work) -> Product:
    train = partial(_trained, config, artifact, start)
    device = str(resolve_device(config.execution.device))
    train_together(train, config.training, config.execution, work, label=LABEL)
    if config.execution.shard_weights and config.execution.world_size > 1:
        execution = config.execution.model_copy(update={"device": "cpu"})  # where all of it has room
        train = partial(_trained, config.model_copy(update={"execution": execution}), artifact, start)
    trained = train(work)
    step, history = trained.step, trained.result.history
    return Product(
        files={**step.result_files(), "curves.jsonl": history_bytes(history)},
        views={SECONDS: trained.stopwatch.to_bytes()},
        summary=_summary(history, step),
        device=device,
    )


@dataclass(frozen=True)
class _Trained:
    step: PriorStep
    result: TrainResult
    stopwatch: Stopwatch


def _trained(config: TrainPriorConfig, artifact: Artifact, start: Artifact | None, work: Work) -> _Trained:
    """Train to the end; in one of several processes, its share."""
    training, execution = config.training, config.execution
    rank, world_size = distributed.rank(), distributed.world_size()
    device = resolve_device(execution.device)
    prepare(device, precision=training.precision, num_threads=execution.num_threads)
    tokens = open_tokens(artifact, execution.token_memory_bytes)
    spec = spec_of(tokens, config)
    step = PriorStep(config, spec, device=device, start=None if start is None else load_prior(start, device))
    stopwatch = Stopwatch(work.workspace)
    validation = partial(
        tokens.sequential, "val", training.batch_size, limit=training.num_validation_records, share=(rank, world_size),
        **reads(config),
    )  # fmt: skip
    batches = tokens.batches("train", training.batch_size, seed=training.seed, **reads(config))
    result = run_training(
        step,
        batches.share(rank, world_size, training.accumulate_batches),
        validation,
        config=training,
        execution=execution,
        work=work,
        label=LABEL,
        stopwatch=stopwatch,
    )
    return _Trained(step, result, stopwatch)


def _summary(history: list[dict[str, float | int | None]], step: PriorStep) -> dict[str, Any]:
    scores = [float(row["validation/nll"]) for row in history if row.get("validation/nll") is not None]  # type: ignore[arg-type]  # None is filtered out
    summary: dict[str, Any] = {"steps": history[-1]["step"] if history else 0}
    summary["num_parameters"] = sum(parameter.numel() for parameter in step.prior.parameters())
    headline = f"{summary['num_parameters'] / 1e6:.1f} M parameters"
    if scores:
        summary["best_validation_nll"] = min(scores)
        headline += f", {min(scores):.3f} nats/token"
    return {"headline": headline, **summary}
