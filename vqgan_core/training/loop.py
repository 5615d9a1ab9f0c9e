"""One training loop for both stages, exactly resumable.

A run is a pure function of its config and its batches: step s reads batch s, and a checkpoint holds all else that the
next step depends on: weights, optimisers, EMA, restart state and own random streams (from the step object), PyTorch's
global generators, the history and its running means, and the steps whose batch is left out. So a run that is killed
anywhere and started again ends with the same bytes as one that was not.

NaN and Inf: a step whose loss or gradient norm is not finite raises before its optimisers touch the weights. The run
goes back to the last checkpoint, leaves the batch out when it comes to that step again, and says so. Three times in a
row, with no good step and checkpoint between, it gives up. In the original such a run goes on training on NaN.

Several processes (`vqgan_core.distributed`) go through the loop together. They hold one state, so process 0 alone
writes and reads checkpoints and reports; the others' arguments for these are not used. Their batches are shares:
`batches` and `validation` give each process its own part. What draws from the global generators (dropout) draws in each
process from a stream of (seed, step, process), so that a checkpoint needs no state of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.config import TrainingConfig, TrainingExecution
from vqgan_core.training import streams
from vqgan_core.training.checkpoints import Checkpoints
from vqgan_core.training.history import Row, RunningMeans, row
from vqgan_core.training.progress import (
    VALIDATED,
    NonFiniteError,
    Progress,
    TrainingDiverged,
    TrainingInterrupted,
    TrainResult,
)

Batch = Mapping[str, Tensor]
"""`images` float [-1, 1] `B C H W`, `label_maps` integers `B H W` or `tokens` int64 `B N`; and `labels` int64 `B` where
there are classes."""

CHECKPOINT_VERSION = 1
MAX_FAILURES = 3


class Batches(Protocol):
    """Training data: endless, and the batch of a step is a function of that step alone."""

    def __call__(self, start_step: int, /) -> Iterator[Batch]:
        """The batches of `start_step` and all that follow."""


class TrainStep(Protocol):
    """What differs between the stages."""

    device: torch.device
    """Where it computes."""

    @property
    def finished_early(self) -> bool:
        """Whether validation says that more steps are of no use."""

    def train_step(self, batch: Batch, step: int) -> Mapping[str, float | Tensor]:
        """Forward, backward and optimiser step; returns `loss` and other scalars, on the device.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite; the weights were not touched.
        """

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over the fixed validation set."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; tensors, numbers, strings, lists and dicts."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""

    def result_files(self) -> dict[str, bytes]:
        """What is published."""


def train(
    step: TrainStep,
    batches: Batches,
    validation: Callable[[], Iterable[Batch]],
    *,
    config: TrainingConfig,
    execution: TrainingExecution,
    checkpoints: Checkpoints,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train from the latest checkpoint, or from the start, to the end.

    Args:
        step: the stage's step object; afterwards it holds the trained state.
        batches: training data, by step.
        validation: gives the validation batches, the same each time.
        config: length, cadence of validation, seed.
        execution: cadence of checkpoints and of progress.
        checkpoints: where checkpoints go.
        report: is told of progress.
        should_stop: asked after each step; true, in any process, ends the run with a checkpoint (for SIGTERM).

    Raises:
        TrainingDiverged: loss or gradients were no numbers, three times in a row.
        TrainingInterrupted: `should_stop` said so.
    """
    loop = _Loop(step, config, checkpoints)
    loop.start()
    iterator = batches(loop.state.step)
    while not loop.finished:
        try:
            loop.advance(next(iterator))
        except NonFiniteError as error:
            loop.tell(report, loop.roll_back(error))
            iterator = batches(loop.state.step)
            continue
        if loop.due(config.validate_every_steps):
            loop.tell(report, loop.validate(validation()))
        elif loop.due(execution.log_every_steps):
            loop.tell(report, loop.progress())
        saves = loop.due(execution.checkpoint_every_steps)
        if saves:
            loop.save()
        if not loop.finished and distributed.any_process(should_stop()):
            loop.interrupt(saved=saves)
    return loop.result()


@dataclass
class _State:
    """The loop's own part of a checkpoint."""

    step: int = 0
    """Steps done."""
    history: list[Row] = field(default_factory=list)
    """Rows so far."""
    skipped: list[int] = field(default_factory=list)
    """Steps whose batch is left out."""
    failures: list[int] = field(default_factory=list)
    """Those of them since the last good checkpoint."""
    means: RunningMeans = field(default_factory=RunningMeans)
    """Train metrics since the last row."""

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "means": self.means.state_dict()}

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Any]) -> _State:
        state = cls(**{**saved, "means": RunningMeans()})
        state.means.load_state_dict(saved["means"])
        return state


class _Loop:
    """The verbs that `train` is written in."""

    def __init__(self, step: TrainStep, config: TrainingConfig, checkpoints: Checkpoints) -> None:
        self.state = _State()
        self._step = step
        self._config = config
        self._checkpoints = checkpoints
        self._last_loss: float | Tensor | None = None
        self._last_good_step = -1

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state.step >= self._config.num_steps or self._step.finished_early

    def due(self, every: int) -> bool:
        """Whether something with this cadence is due after the steps done; at the end everything is."""
        return self.state.step % every == 0 or self.finished

    def start(self) -> None:
        """Restore the latest checkpoint; without one, seed the generators and write the first."""
        if not self._restore():
            streams.seed_global(self._config.seed, "training")
            self._write()

    def advance(self, batch: Batch) -> None:
        """Take one step, unless its batch is to be left out."""
        step = self.state.step
        if distributed.world_size() > 1:
            streams.seed_global(self._config.seed, f"step {step} of process {distributed.rank()}")
        if step not in self.state.skipped:
            metrics = self._step.train_step(batch, step)
            self.state.means.add(metrics)
            self._last_loss = metrics["loss"]
            self._last_good_step = step
        self.state.step += 1

    def validate(self, batches: Iterable[Batch]) -> Progress:
        """Write a history row from the train metrics since the last one and from a validation."""
        train_means = self.state.means.means()
        self.state.means.clear()
        metrics = self._step.validate(batches)
        values = row(self.state.step, train_means, metrics, len(self.state.skipped))
        self.state.history.append(values)
        shown = {name: value for name, value in values.items() if "/" in name and value is not None}
        return Progress(self.state.step, self._config.num_steps, shown, VALIDATED)

    @staticmethod
    def tell(report: Callable[[Progress], None], progress: Progress) -> None:
        """Let process 0 report."""
        if distributed.rank() == 0:
            report(progress)

    def progress(self) -> Progress:
        """The usual tick: means since the last history row."""
        means = {f"train/{name}": value for name, value in self.state.means.means().items()}
        return Progress(self.state.step, self._config.num_steps, means)

    def save(self) -> None:
        """Write a regular checkpoint. Once a step after the last failure went well, that is over."""
        if self.state.failures and self._last_good_step > self.state.failures[-1]:
            self.state.failures = []
        self._write()

    def interrupt(self, *, saved: bool) -> NoReturn:
        """Write a checkpoint, unless one was saved just now, and stop."""
        if not saved:
            self._write()
        raise TrainingInterrupted(self.state.step, self._config.num_steps)

    def roll_back(self, error: NonFiniteError) -> Progress:
        """Go back to the last checkpoint and note the failed step in it, so that a kill forgets nothing."""
        failed = self.state.step
        failures = [*self.state.failures, failed]
        if len(failures) >= MAX_FAILURES:
            loss = None if self._last_loss is None else float(self._last_loss)
            raise TrainingDiverged(failures, loss, error) from error
        restored = self._restore()
        assert restored, "the loop writes a checkpoint before its first step"
        self.state.failures = failures
        self.state.skipped = [*self.state.skipped, failed]
        self._last_good_step = -1
        self._write()
        message = (
            f"step {failed}: {error}; went back to step {self.state.step}, the batch of step {failed} will be left out "
            f"(time {len(failures)} in a row, {MAX_FAILURES} end the run)"
        )
        return Progress(self.state.step, self._config.num_steps, message=message)

    def result(self) -> TrainResult:
        """What `train` returns."""
        return TrainResult(
            num_steps=self.state.step,
            history=self.state.history,
            stopped_early=self.state.step < self._config.num_steps,
            skipped_steps=tuple(self.state.skipped),
        )

    def _write(self) -> None:
        step = self._step.state_dict()  # which all may have to put together
        if distributed.rank() > 0:
            return
        buffer = io.BytesIO()
        content = {
            "version": CHECKPOINT_VERSION,
            "loop": self.state.state_dict(),
            "step": step,
            "random": streams.global_state(self._step.device),
        }
        torch.save(content, buffer)
        self._checkpoints.save(self.state.step, buffer.getvalue())

    def _restore(self) -> bool:
        latest = self._checkpoints.load_latest() if distributed.rank() == 0 else None
        data = distributed.broadcast_bytes(latest[1] if latest else None)
        if data is None:
            return False
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if content["version"] != CHECKPOINT_VERSION:
            raise ValueError(
                f"the checkpoint of step {content['loop']['step']} has format {content['version']}, this version reads "
                f"{CHECKPOINT_VERSION}: finish the run with the version that began it, or delete its checkpoints"
            )
        self._step.load_state_dict(content["step"])
        self.state = _State.from_state_dict(content["loop"])
        streams.set_global_state(content["random"], self._step.device)
        return True
