"""A tokenizer's training step with a discriminator, against the paper's order in eager fp32."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.coding import CONFIG, PLAIN
from benchmarks.device import DEVICE
from benchmarks.pairs import Pair
from benchmarks.plain import PlainGanStep, PlainTokenizer
from benchmarks.targets import TOKENIZER_STEP
from vqgan_core.config import TrainTokenizerConfig
from vqgan_core.losses.cost import loss_cost
from vqgan_core.tokenizer.cost import tokenizer_cost
from vqgan_core.training import TokenizerStep
from vqgan_core.training.cost import tokenizer_step_flops

BATCH, SIZE_PX = 2, 64
STEP = 1_000_000  # long after the discriminator's start


def pairs() -> Iterator[Pair]:
    """In fp32 and bf16; the plain way is always fp32. Neither has a perceptual term."""
    torch.manual_seed(0)
    images = torch.rand(BATCH, 3, SIZE_PX, SIZE_PX, device=DEVICE) * 2 - 1
    plain = PlainGanStep(PlainTokenizer(*PLAIN).to(DEVICE), 64)
    plain.discriminator.to(DEVICE)
    batch = {"images": images, "labels": torch.zeros(BATCH, dtype=torch.int64, device=DEVICE)}
    for precision in ("fp32", "bf16"):
        config = TrainTokenizerConfig.model_validate(
            CONFIG
            | {
                "loss": {"perceptual": "none", "adversarial": {"start_step": 0}},
                "training": {"batch_size": BATCH, "precision": precision},
            }
        )
        step = TokenizerStep(config, device=DEVICE)
        costs = tokenizer_cost(config.model(), SIZE_PX), loss_cost(config.loss, 3, SIZE_PX)
        flops = BATCH * tokenizer_step_flops(config, *costs, judges=True, trains_discriminator=True)
        yield Pair(
            f"tokenizer step, {SIZE_PX} px, {precision}", "images/s", BATCH,
            lambda s=step: s.train_step(batch, STEP),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            lambda: plain(images), flops, precision=precision, target=TOKENIZER_STEP,
        )  # fmt: skip
