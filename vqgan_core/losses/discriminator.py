"""The patch discriminator: one logit for each overlapping patch of an image.

Axes: B batch, C channels, H×W image, h×w patches.

Source: pix2pix, arXiv 1611.07004 §3.2.2 and §6.1.2; ActNorm from Glow, arXiv 1807.03039 §3.1. Kernels of 4, LeakyReLU
with slope 0.2, widths doubling up to eightfold, weights drawn from N(0, 0.02), all as in the original. Spectral norm
of weights, in place of normalised activations, is an addition. BatchNorm and ActNorm's first batch are those of all
processes together.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from vqgan_core import distributed
from vqgan_core.config import PatchGanConfig
from vqgan_core.losses.batch_norm import BatchNorm
from vqgan_core.losses.spectral_norm import SpectralNorm
from vqgan_core.tokenizer.blocks import as_convolutions_want

__all__ = ["ActNorm", "PatchDiscriminator"]


class ActNorm(nn.Module):
    """A scale and a shift for each channel, set by the first training batch so that it comes out standardised."""

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))
        self._known_initialized = False  # spares asking the device in every forward

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return scale · (x + loc)."""
        if self.training and not self._known_initialized:
            if not self.initialized:
                self._initialize(x)
            self._known_initialized = True
        return self.scale * (x + self.loc)

    @torch.no_grad()
    def _initialize(self, x: Float[Tensor, "B C H W"]) -> None:
        channels = rearrange(x.float(), "b c h w -> c (b h w)")
        mean = distributed.mean(channels.mean(dim=1))
        squares = distributed.total((channels - mean[:, None]).square().sum(dim=1))
        deviation = (squares / (channels.shape[1] * distributed.world_size() - 1)).sqrt()
        self.loc.copy_(-mean.view_as(self.loc))
        self.scale.copy_(1 / (deviation.view_as(self.scale) + 1e-6))
        self.initialized.fill_(1)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_initialized = False


class PatchDiscriminator(nn.Module):
    """Strided convolutions, then a logit for each patch."""

    def __init__(self, config: PatchGanConfig, image_channels: int) -> None:
        super().__init__()
        width = config.base_channels
        layers: list[nn.Module] = [nn.Conv2d(image_channels, width, 4, stride=2, padding=1), _leaky()]
        for index in range(1, config.num_layers + 1):
            stride = 2 if index < config.num_layers else 1
            wider = config.base_channels * min(2**index, 8)
            # BatchNorm has a shift of its own; the original gives ActNorm's convolutions a bias all the same.
            bias = config.norm != "batch"
            layers += [nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=bias), *_norm(config.norm, wider)]
            layers += [_leaky()]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.min_size_px = 2**config.num_layers * 3
        self.reset_parameters()
        if config.norm == "spectral":
            for module in self.layers:
                if isinstance(module, nn.Conv2d):
                    register_parametrization(module, "weight", SpectralNorm(module.weight))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all convolutions from N(0, 0.02) and BatchNorm's scales from N(1, 0.02)."""
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(_trained_weight(module), 0.0, 0.02)
            elif isinstance(module, BatchNorm):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """Logits, positive where a patch looks real.

        Raises:
            ValueError: the image is too small to hold one patch.
        """
        if min(images.shape[2:]) < self.min_size_px:
            raise ValueError(
                f"image of {images.shape[2]}x{images.shape[3]} px: this discriminator needs at least "
                f"{self.min_size_px} px each way; use fewer num_layers or larger images"
            )
        logits: Tensor = self.layers(as_convolutions_want(images))
        return logits


def _trained_weight(layer: nn.Conv2d) -> Tensor:
    """What is trained where the weight may be a function of it."""
    return layer.get_parameter("parametrizations.weight.original" if is_parametrized(layer) else "weight")


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _norm(kind: str, channels: int) -> list[nn.Module]:
    if kind == "spectral":
        return []
    return [BatchNorm(channels) if kind == "batch" else ActNorm(channels)]
