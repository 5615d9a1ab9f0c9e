"""What a tokenizer's loss costs: the discriminator's parameters, and operations of one image in each network.

A multiply-add is two operations, as in `vqgan_core.tokenizer.cost`. The networks are built on the meta device: the
perceptual network's weights need not be there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vqgan_core.config import LpipsConfig, PatchGanConfig, TokenizerLossConfig
from vqgan_core.losses.discriminator import PatchDiscriminator
from vqgan_core.losses.perceptual import empty_network
from vqgan_core.tokenizer.cost import forward_flops, num_parameters

__all__ = ["LossCost", "loss_cost", "perceptual_flops"]


@dataclass(frozen=True)
class LossCost:
    """Costs of one loss; operations are those of one image, forward."""

    num_parameters: int
    """The discriminator's; 0 without one. The perceptual network is not trained."""
    discriminator_flops: float
    """0 without one."""
    perceptual_flops: float
    """The perceptual network on one image of the pair that it compares; 0 without one."""


def loss_cost(config: TokenizerLossConfig, image_channels: int, size_px: int) -> LossCost:
    """Count without allocating.

    Args:
        config: which terms.
        image_channels: of the images that are compared.
        size_px: their height and width.

    Raises:
        ValueError: the images are too small for one of the networks.
    """
    parameters, flops = 0, 0.0
    if isinstance(config.adversarial, PatchGanConfig):
        with torch.device("meta"):
            discriminator = PatchDiscriminator(config.adversarial, image_channels).eval()
        parameters = num_parameters(discriminator)
        flops = forward_flops(discriminator, (1, image_channels, size_px, size_px))
    lpips = config.perceptual if isinstance(config.perceptual, LpipsConfig) else None
    return LossCost(parameters, flops, 0.0 if lpips is None else perceptual_flops(lpips, size_px))


def perceptual_flops(config: LpipsConfig, size_px: int) -> float:
    """Operations of LPIPS on one of the two images that it compares (grey ones are repeated to three channels)."""
    shape = (1, 3, size_px, size_px)
    return forward_flops(empty_network(config).to("meta"), shape, shape) / 2
