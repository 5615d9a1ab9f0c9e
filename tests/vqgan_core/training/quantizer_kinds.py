"""Every kind of quantizer, and every variant of the tokenizer, as overrides of a small one."""

from __future__ import annotations

from typing import Any

import torch

from tests.vqgan_core.training.steps import images_of
from vqgan_core.config import TrainTokenizerConfig
from vqgan_core.training import Batch

KINDS: dict[str, dict[str, Any]] = {
    "vector": {},
    "vector, the original's β": {"quantizer__beta_placement": "legacy"},
    "vector with restart": {"quantizer__restart_dead_codes_after_steps": 2},
    "l2": {"quantizer__l2_normalize": True},
    "vector with rotation": {"quantizer__gradient": "rotation"},
    "ema": {"quantizer__kind": "ema", "quantizer__decay": 0.9},
    "ema with restart": {"quantizer__kind": "ema", "quantizer__restart_dead_codes_after_steps": 2},
    "gumbel": {"quantizer__kind": "gumbel", "quantizer__temperature_decay_steps": 30},
    "gumbel mixture": {"quantizer__kind": "gumbel", "quantizer__straight_through": False},
    "simvq": {"quantizer__kind": "simvq"},
    "fsq": {"quantizer__kind": "fsq", "quantizer__levels": [3, 4], "codebook_size": 12, "codebook_dim": 2},
    "lfq": {"quantizer__kind": "lfq", "quantizer__temperature": 1.0},
    "residual with restart": {
        "quantizer__kind": "residual",
        "quantizer__depth": 3,
        "quantizer__restart_dead_codes_after_steps": 2,
    },
}

_LABEL_MAPS = {"autoencoder__image_channels": 5, "loss__adversarial": "none"}
#: What else a tokenizer can be than images, one grid and one quantizer.
TOKENIZERS: dict[str, dict[str, Any]] = {
    "vqgan": {"autoencoder__dropout": 0.1, "training__ema_decay": 0.5, "loss__adversarial__lecam_weight": 0.1},
    "dvae": {
        "quantizer__kind": "gumbel",
        "quantizer__straight_through": False,
        "quantizer__kl_warmup_steps": 8,
        "quantizer__kl_weight": 0.03,
        "pixels": "logit_laplace",
        "loss__pixel": "logit_laplace",
        "loss__adversarial": "none",
    },
    "dall-e": {
        "autoencoder": {
            "kind": "dvae",
            "image_channels": 1,
            "resolution_px": 16,
            "base_channels": 32,
            "num_levels": 2,
        },
        "quantizer__kind": "gumbel",
        "quantizer__straight_through": False,
        "quantizer__kl_weight": 0.01,
        "pixels": "logit_laplace",
        "loss__pixel": "logit_laplace",
        "loss__adversarial": "none",
    },
    "vq-vae-2": {
        "quantizer__kind": "ema",
        "top__codebook_size": 8,
        "top__codebook_dim": 3,
        "top__quantizer__restart_dead_codes_after_steps": 3,
        "loss__pixel": "l2",
        "loss__adversarial": "none",
    },
    "two levels of a vqgan": {"top__quantizer__kind": "gumbel", "training__accumulate_batches": 2},
    "segmentation, bce": {**_LABEL_MAPS, "loss__pixel": "bce"},
    "segmentation, cross-entropy": {**_LABEL_MAPS, "loss__pixel": "cross_entropy"},
}


def batch_of(config: TrainTokenizerConfig, step: int, size: int) -> Batch:
    """A batch as this tokenizer is trained on: images, or label maps that are made of them."""
    batch = images_of(step, size=size)
    if not config.loss.of_label_maps:
        return batch
    num_classes = config.autoencoder.image_channels
    levels = ((batch["images"][:, 0] + 1) / 2 * num_classes).long()
    return {"label_maps": levels.clamp(max=num_classes - 1).to(torch.uint8)}
