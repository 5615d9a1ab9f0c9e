"""The encoder and decoder of DALL·E's dVAE.

Axes: B batch, C image channels, L latent channels, D codebook width, H×W image, h×w grid.

A level is a group of residual blocks; between levels the encoder takes maxima of 2×2 pixels and the decoder repeats
them. Neither norms nor attention: what a pixel becomes depends on a neighbourhood alone (`tiling`). A block's residual
counts 1 / n² with n blocks in all, which stands in for a normalisation.

The encoder sees images as the likelihood does, in [ε, 1 - ε] (`pixels`), and ends in features whose 1×1 convolution,
the Gumbel quantizer's projection, is the logits of the entries. A codebook entry is what the decoder begins with.

Source: arXiv 2102.12092 appendix A.2, and the published model, whose weights `tessera import dalle` reads. Departure:
the bias of the decoder's first layer is part of the entries, as each position is a mixture of entries whose weights add
up to 1.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core.config import DvaeAutoencoderConfig
from vqgan_core.tokenizer.blocks import Block, BlockSequence
from vqgan_core.tokenizer.pixels import map_pixels

__all__ = ["DvaeBlock", "DvaeDecoder", "DvaeEncoder"]

ENCODER_KERNELS, DECODER_KERNELS = (3, 3, 3, 1), (1, 3, 3, 3)


def convolution(in_channels: int, out_channels: int, size: int) -> nn.Conv2d:
    """A convolution that keeps height and width, and, at the beginning, the variance of what it is given."""
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    nn.init.normal_(layer.weight, std=(in_channels * size**2) ** -0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # there is one: Conv2d's default
    return layer


class DvaeBlock(Block):
    """Four rectified convolutions at a quarter of the width, damped, beside a shortcut.

    Args:
        in_channels: width that comes in.
        out_channels: width that goes out.
        kernels: sizes of the convolutions.
        gain: factor of the residual.
    """

    def __init__(self, in_channels: int, out_channels: int, kernels: Sequence[int], gain: float) -> None:
        super().__init__()
        hidden = out_channels // 4
        widths = (in_channels, hidden, hidden, hidden, out_channels)
        pairs = zip(itertools.pairwise(widths), kernels, strict=True)
        self.convolutions = nn.ModuleList(convolution(*pair, size) for pair, size in pairs)
        self.shortcut = nn.Identity() if in_channels == out_channels else convolution(in_channels, out_channels, 1)
        self.gain = gain

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        """Return shortcut(x) + gain · residual(x)."""
        residual = x
        for layer in self.convolutions:
            residual = layer(F.relu(residual))
        out: Tensor = self.shortcut(x) + self.gain * residual
        return out


def _level(
    config: DvaeAutoencoderConfig, in_channels: int, channels: int, kernels: Sequence[int]
) -> OrderedDict[str, nn.Module]:
    gain = 1 / (config.num_levels * config.num_res_blocks) ** 2
    widths = [in_channels] + [channels] * config.num_res_blocks
    return OrderedDict(
        (f"block{index}", DvaeBlock(*pair, kernels, gain)) for index, pair in enumerate(itertools.pairwise(widths))
    )


class DvaeEncoder(BlockSequence):
    """`B C H W` images to `B L h w` features, h = H / f."""

    def __init__(self, config: DvaeAutoencoderConfig) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv_in"] = convolution(config.image_channels, config.base_channels, 7)
        width = config.base_channels
        for index, multiplier in enumerate(config.channel_multipliers):
            channels = config.base_channels * multiplier
            layers[f"level{index}"] = nn.Sequential(_level(config, width, channels, ENCODER_KERNELS))
            if index + 1 < config.num_levels:
                layers[f"pool{index}"] = nn.MaxPool2d(2)
            width = channels
        layers["relu"] = nn.ReLU()
        super().__init__(layers)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L h w"]:
        """Features of images in [-1, 1]."""
        return super().forward(map_pixels(x))


class DvaeDecoder(BlockSequence):
    """`B D h w` entries to what is said of `B C H W` images, H = f · h.

    Args:
        config: of the networks.
        codebook_dim: D.
        values_per_channel: what it says of a channel of a pixel: a value, or as many as its distribution has.
    """

    conv_out: nn.Conv2d

    def __init__(self, config: DvaeAutoencoderConfig, codebook_dim: int, values_per_channel: int = 1) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = codebook_dim
        for index, multiplier in reversed(list(enumerate(config.channel_multipliers))):
            channels = config.base_channels * multiplier
            layers[f"level{index}"] = nn.Sequential(_level(config, width, channels, DECODER_KERNELS))
            if index > 0:
                layers[f"upsample{index}"] = nn.Upsample(scale_factor=2, mode="nearest")
            width = channels
        layers["relu"] = nn.ReLU()
        layers["conv_out"] = convolution(width, values_per_channel * config.image_channels, 1)
        super().__init__(layers)
