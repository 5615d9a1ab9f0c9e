"""What the two training stages share: a step object, its batches and its checkpoints go through the one loop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch

from datasets.prefetch import mapped_ahead
from datasets.store import Store, Workspace
from tasks.checkpoints import WorkspaceCheckpoints, newest_step
from tasks.stage import Headway, Work
from tasks.stopwatch import Stopwatch
from vqgan_core.config import TrainingConfig, TrainingExecution
from vqgan_core.training import Batch, Batches, Progress, TrainResult, TrainStep, train
from vqgan_core.training.progress import VALIDATED


def run_training(
    step: TrainStep,
    batches: Batches,
    validation: Callable[[], Iterable[Batch]],
    *,
    config: TrainingConfig,
    execution: TrainingExecution,
    work: Work,
    label: str,
    stopwatch: Stopwatch | None = None,
) -> TrainResult:
    """Train to the end, from wherever a dead run left it; SIGTERM writes a checkpoint and stops.

    A stopwatch is told of each validation.

    Raises:
        TrainingDiverged: three non-finite steps in a row.
        TrainingInterrupted: SIGTERM came; the checkpoint is written.
        LeaseLost: another run has taken over.
    """
    with work.reporter.bar(label, config.num_steps, "steps") as bar, _sigterm() as asked:
        if reached := newest_step(work.workspace):
            bar.say(f"goes on at step {reached} of {config.num_steps}, the last checkpoint of an earlier run")

        def report(progress: Progress) -> None:
            bar.update(progress.step, progress.metrics)
            if stopwatch is not None and progress.message == VALIDATED:
                stopwatch.lap(progress.step)
            if progress.message and not progress.metrics:
                bar.say(progress.message)

        return train(
            step,
            page_locked(batches) if step.device.type == "cuda" else batches,
            validation,
            config=config,
            execution=execution,
            checkpoints=WorkspaceCheckpoints(work.workspace, work.lease),
            report=report,
            should_stop=asked.is_set,
        )


def page_locked(batches: Batches) -> Batches:
    """The same batches, two ahead, in memory that a GPU copies from while it computes."""

    def from_step(start_step: int) -> Iterator[Batch]:
        return mapped_ahead(_pinned, batches(start_step), num_threads=1, ahead=2)

    return from_step


def _pinned(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: values.pin_memory() for name, values in batch.items()}


def training_headway(config: TrainingConfig, _store: Store, workspace: Workspace) -> Headway:
    """How far the newest checkpoint is."""
    return Headway(newest_step(workspace), config.num_steps, "steps")


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, where a handler can be installed: in the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, previous)
