"""What each of two processes does in `test_sharding`: goes on from one process' checkpoint, each holding half.

Started by torchrun: `python -m torch.distributed.run … -m tests.vqgan_core.training.two_shards FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from tests.vqgan_core.training.steps import SPEC, endless, prior_config, tokens_of
from tests.vqgan_core.training.two_processes import share
from vqgan_core import distributed
from vqgan_core.training import DirectoryCheckpoints, PriorStep, TrainingInterrupted, train

BATCH_SIZE = 8
#: Interrupted there, by whoever trains.
STOPS = {"one": 2, "two": 4}


def step_of(**overrides: Any) -> PriorStep:
    """A prior whose training draws nothing that depends on the number of processes."""
    config = prior_config(dropout=0.0, training__batch_size=BATCH_SIZE, **overrides)
    return PriorStep(config, SPEC)


def trained(step: PriorStep, folder: Path, stop: int | None = None) -> PriorStep:
    """Go on from the folder's checkpoint, to the end or to a step at which it is interrupted."""
    batches = endless(lambda number: share(tokens_of(number, BATCH_SIZE)))
    done = 0

    def counted(start_step: int) -> Any:
        nonlocal done
        done = start_step
        for batch in batches(start_step):
            done += 1
            yield batch

    try:
        train(
            step, counted, lambda: [share(tokens_of(-1, 4))], config=step.config.training,
            execution=step.config.execution, checkpoints=DirectoryCheckpoints(folder, keep=9), report=lambda _: None,
            should_stop=lambda: done == stop,
        )  # fmt: skip
    except TrainingInterrupted:
        assert stop is not None
    return step


def main(folder: Path) -> None:
    """Load, write down what is held, train on."""
    with distributed.process_group(timeout_seconds=120):
        step = trained(step_of(execution__shard_weights=True), folder, STOPS["two"])
        held = {
            "sharded": [isinstance(parameter, DTensor) for parameter in step.prior.parameters()],
            "elements": sum(p.to_local().numel() for p in step.prior.parameters() if isinstance(p, DTensor)),
        }
        torch.save(held, folder / f"held-{distributed.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
