"""What a training run says about itself: progress while it runs, a result when it ends, and how it can fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vqgan_core.training.history import Row

VALIDATED = "validated"
"""Message of the progress that a validation makes."""


@dataclass(frozen=True)
class Progress:
    """One message of a running training."""

    step: int
    """Optimiser steps done."""
    num_steps: int
    """Optimiser steps planned."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Means since the last history row (`train/…`), or a validation's values (`validation/…`)."""
    message: str = ""
    """What a person should know; empty for the usual tick."""


@dataclass(frozen=True)
class TrainResult:
    """What `train` returns."""

    num_steps: int
    """Optimiser steps done: fewer than planned after an early stop."""
    history: list[Row]
    """One row a validation; the same for a run that was killed and resumed as for one that was not."""
    stopped_early: bool
    """Whether validation stopped improving before num_steps."""
    skipped_steps: tuple[int, ...]
    """Steps whose batch gave a loss or gradient that is no number, and was left out."""


class TrainingError(RuntimeError):
    """Base of what a running training raises."""


class NonFiniteError(TrainingError):
    """A step's loss or gradient norm is NaN or infinite; raised before an optimiser has touched the weights."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values = dict(values)
        super().__init__(", ".join(f"{name} is {value}" for name, value in values.items()))


class TrainingDiverged(TrainingError):  # noqa: N818 - the state of the run, as `StopIteration` is
    """Going back to the last good checkpoint did not help, several times in a row."""

    def __init__(self, steps: Sequence[int], last_finite_loss: float | None, cause: NonFiniteError) -> None:
        self.steps = tuple(steps)
        self.last_finite_loss = last_finite_loss
        loss = "no step had a finite loss" if last_finite_loss is None else f"last finite loss {last_finite_loss:.6g}"
        super().__init__(
            f"training diverged: {cause} (steps {', '.join(map(str, steps))}, one after another, {loss}); lower the "
            "learning rate, clip gradients, start the discriminator later, or look at the records of these steps"
        )


class TrainingInterrupted(TrainingError):  # noqa: N818 - nothing is wrong: run it again and it goes on
    """The run was asked to stop; it wrote a checkpoint first and goes on from there when started again."""

    def __init__(self, step: int, num_steps: int) -> None:
        self.step = step
        super().__init__(f"stopped at step {step} of {num_steps} with a checkpoint: start it again to go on")
