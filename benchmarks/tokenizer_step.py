"""A tokenizer's training step, against the order of the original: a second autoencoder pass for the discriminator."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.pairs import Pair
from tasks.config import PipelineConfig
from vqgan_core.losses import TokenizerLoss
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training.tokenizer_step import TokenizerStep

BATCH = 16
STEP = 1_000_000  # long after the discriminator's start


def pairs() -> Iterator[Pair]:
    """The digits preset's networks on noise."""
    config = PipelineConfig.preset("digits", ["tokenizer.training.batch_size=16"]).tokenizer
    images = torch.rand(BATCH, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step = TokenizerStep(config, device=torch.device("cpu"))
    tokenizer, loss = Tokenizer(config.model()), TokenizerLoss(config.loss, 1)
    assert loss.discriminator is not None
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-4) for part in (tokenizer, loss.discriminator)]

    def original_order() -> None:
        for optimizer, is_generator in zip(optimizers, (True, False), strict=True):
            output = tokenizer(images)
            optimizer.zero_grad()
            if is_generator:
                value, _ = loss.autoencoder_loss(images, output, tokenizer.last_layer, STEP)
            else:
                value, _ = loss.discriminator_loss(images, output.reconstruction.detach(), STEP)
            torch.autograd.backward(value)
            optimizer.step()

    batch = {"images": images, "labels": torch.zeros(BATCH, dtype=torch.int64)}
    yield Pair(
        "tokenizer step, 32 px, batch 16", "images/s", BATCH, lambda: step.train_step(batch, STEP), original_order
    )
