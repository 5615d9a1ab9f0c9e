"""Small real configs and data for tests of the two steps."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from vqgan_core.config import TokenSpec, TrainPriorConfig, TrainTokenizerConfig
from vqgan_core.training import Batch

SPEC = TokenSpec(codebook_size=11, height=3, width=4, num_classes=3)


def tokenizer_config(**overrides: Any) -> TrainTokenizerConfig:
    """A tokenizer of a few thousand parameters; dotted overrides."""
    small = {
        "codebook_size": 16,
        "codebook_dim": 4,
        "autoencoder.image_channels": 1,
        "autoencoder.resolution_px": 16,
        "autoencoder.base_channels": 8,
        "autoencoder.channel_multipliers": [1, 2],
        "autoencoder.num_res_blocks": 1,
        "autoencoder.attention_resolutions": [],
        "autoencoder.latent_channels": 8,
        "autoencoder.num_groups": 4,
        "loss.perceptual": "none",
        "loss.adversarial.kind": "patchgan",
        "loss.adversarial.base_channels": 8,
        "loss.adversarial.num_layers": 2,
        "loss.adversarial.start_step": 2,
        "loss.adversarial.discriminator_start_step": 1,
        "training.num_steps": 6,
        "training.batch_size": 4,
        "training.learning_rate": 1e-3,
        "training.validate_every_steps": 3,
        "training.seed": 5,
        "execution.device": "cpu",
        "execution.num_threads": 1,
        "execution.checkpoint_every_steps": 2,
        "execution.log_every_steps": 1,
    }
    return TrainTokenizerConfig.load(overrides={**small, **{key.replace("__", "."): v for key, v in overrides.items()}})


def prior_config(**overrides: Any) -> TrainPriorConfig:
    """A prior of a few thousand parameters; dotted overrides."""
    small = {
        "num_layers": 2,
        "num_heads": 2,
        "width": 16,
        "dropout": 0.2,
        "condition_dropout": 0.5,
        "training.num_steps": 6,
        "training.batch_size": 4,
        "training.learning_rate": 1e-2,
        "training.validate_every_steps": 3,
        "training.seed": 5,
        "execution.device": "cpu",
        "execution.num_threads": 1,
        "execution.checkpoint_every_steps": 2,
        "execution.log_every_steps": 1,
    }
    return TrainPriorConfig.load(overrides={**small, **{key.replace("__", "."): v for key, v in overrides.items()}})


def images_of(step: int, size: int = 4) -> Batch:
    """Smooth images: blurred noise and a bright square; a function of the step alone."""
    noise = torch.randn(size, 1, 18, 18, generator=torch.Generator().manual_seed(step))
    images = torch.nn.functional.avg_pool2d(noise, 3, stride=1)
    images[:, :, 4:9, 4:9] += 0.5
    return {"images": images.clamp(-1, 1), "labels": torch.zeros(size, dtype=torch.int64)}


def tokens_of(step: int, size: int = 4) -> Batch:
    """Token grids that count upwards from their class; a function of the step alone."""
    labels = torch.randint(SPEC.num_classes, (size,), generator=torch.Generator().manual_seed(step))
    return {"tokens": (labels[:, None] + torch.arange(SPEC.num_tokens)) % SPEC.codebook_size, "labels": labels}


def endless(batch_of: Any, poison_step: int | None = None) -> Any:
    """Training data; the images of one step may hold a NaN."""

    def stream(start_step: int) -> Iterator[Batch]:
        for step in itertools.count(start_step):
            batch = batch_of(step)
            if step == poison_step:
                batch["images"][0, 0, 0, 0] = float("nan")
            yield batch

    return stream


def copied(state: Any) -> Any:
    """A state as a checkpoint gives it back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
