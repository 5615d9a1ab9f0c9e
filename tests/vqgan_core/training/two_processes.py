"""What each of two processes does in `test_two_processes`: trains every variant, writes down what it then holds.

Started by torchrun: `python -m torch.distributed.run … -m tests.vqgan_core.training.two_processes FOLDER`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.vqgan_core.training.quantizer_kinds import KINDS, TOKENIZERS, batch_of
from tests.vqgan_core.training.steps import SPEC, endless, images_of, prior_config, tokenizer_config, tokens_of
from vqgan_core import distributed
from vqgan_core.training import (
    Batch,
    MemoryCheckpoints,
    PriorStep,
    Progress,
    TokenizerStep,
    TrainingInterrupted,
    history_bytes,
    train,
)

NUM_STEPS, BATCH_SIZE = 3, 8
VQ_VAE = {"loss__adversarial": "none"}
VARIANTS: dict[str, dict[str, Any]] = {
    **{kind: {**VQ_VAE, **overrides} for kind, overrides in KINDS.items()},
    "restart in pieces": {
        **VQ_VAE, "quantizer__restart_dead_codes_after_steps": 2, "training__accumulate_batches": 2,
    },
    "gumbel in pieces": {**VQ_VAE, **KINDS["gumbel"], "training__accumulate_batches": 2},
    "batch norm and λ": {"loss__adversarial__lecam_weight": 0.1, "training__ema_decay": 0.5},
    "batch norm and λ in pieces": {"training__accumulate_batches": 2},
    "actnorm": {"loss__adversarial__norm": "actnorm"},
    **{name: TOKENIZERS[name] for name in ("dvae", "dall-e", "vq-vae-2", "two levels of a vqgan")},
    "label maps": TOKENIZERS["segmentation, cross-entropy"],
    "perturbed, spectral": {"loss__adversarial__norm": "spectral", "perturbation__image_fraction": 0.5},
}  # fmt: skip


PRIOR: dict[str, Any] = {
    "dropout": 0.0, "order": "random_annealed", "token_corruption": 0.3, "token_dropout": 0.2,
    "random_order__anneal_from": 0.9, "random_order__anneal_to": 0.9, "training__batch_size": BATCH_SIZE,
    "training__accumulate_batches": 2, "training__schedule": "constant",
}  # fmt: skip


def share(batch: Batch, num_pieces: int = 1) -> Batch:
    """This process' part of each piece of a batch."""
    rank, world_size = distributed.rank(), distributed.world_size()

    def own(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([piece.chunk(world_size)[rank] for piece in values.chunk(num_pieces)])

    return {name: own(values) for name, values in batch.items()}


def trained(variant: str) -> dict[str, Any]:
    """Everything that a step holds after a few steps, and what it said of them."""
    config = tokenizer_config(**VARIANTS[variant], training__batch_size=BATCH_SIZE, training__schedule="constant")
    step = TokenizerStep(config)
    num_pieces = config.training.accumulate_batches
    metrics = [
        {
            name: float(value)
            for name, value in step.train_step(share(batch_of(config, index, BATCH_SIZE), num_pieces), index).items()
        }
        for index in range(NUM_STEPS)
    ]
    every = [batch_of(config, index, size) for index, size in ((-1, 4), (-2, 2), (-3, 1))]
    own = every[:1] if distributed.rank() == 0 else every[1:]
    validation = step.validate(own if distributed.world_size() > 1 else every)
    return {"state": step.state_dict(), "metrics": metrics, "validation": validation}


def trained_prior() -> dict[str, Any]:
    """The same of a prior whose tokens are corrupted, hidden and read in random orders."""
    step = PriorStep(prior_config(**PRIOR), SPEC)
    metrics = [
        {name: float(value) for name, value in step.train_step(share(tokens_of(index, BATCH_SIZE), 2), index).items()}
        for index in range(NUM_STEPS)
    ]
    own = [tokens_of(-1)] if distributed.rank() == 0 else [tokens_of(-2, 2), tokens_of(-3, 1)]
    every = [tokens_of(-1), tokens_of(-2, 2), tokens_of(-3, 1)]
    validation = step.validate(own if distributed.world_size() > 1 else every)
    return {"state": step.state_dict(), "metrics": metrics, "validation": validation}


def looped() -> dict[str, Any]:
    """A run whose process 1 is asked to stop and once given a NaN; process 0 alone has a place for checkpoints."""
    config = tokenizer_config(autoencoder__dropout=0.1, training__batch_size=BATCH_SIZE)
    poison_step = 3 if distributed.rank() == 1 else None
    messages: list[Progress] = []
    checkpoints = MemoryCheckpoints()

    def batches(start_step: int) -> Iterator[Batch]:
        return map(share, endless(lambda step: images_of(step, BATCH_SIZE), None)(start_step))

    def poisoned(start_step: int) -> Iterator[Batch]:
        for step, batch in enumerate(batches(start_step), start_step):
            if step == poison_step:
                batch["images"][0, 0, 0, 0] = float("nan")
            yield batch

    def run(*, stop: bool) -> tuple[TokenizerStep, Any]:
        step = TokenizerStep(config)
        result = train(
            step, poisoned, lambda: [images_of(-1)] if distributed.rank() == 0 else [], config=config.training,
            execution=config.execution, checkpoints=checkpoints, report=messages.append,
            should_stop=lambda: stop and distributed.rank() == 1,
        )  # fmt: skip
        return step, result

    interrupted = 0
    try:
        run(stop=True)
    except TrainingInterrupted:
        interrupted = 1
    step, result = run(stop=False)
    return {
        "interrupted": interrupted,
        "state": step.state_dict(),
        "curves": history_bytes(result.history),
        "skipped": list(result.skipped_steps),
        "num_messages": len(messages),
        "checkpoints": sorted(checkpoints.data),
    }


def main(folder: Path) -> None:
    """Train all variants and write `rank-N.pt`."""
    with distributed.process_group(timeout_seconds=120):
        found = {"variants": {name: trained(name) for name in VARIANTS}, "prior": trained_prior(), "loop": looped()}
        torch.save(found, folder / f"rank-{distributed.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
