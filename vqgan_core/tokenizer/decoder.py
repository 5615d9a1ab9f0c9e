"""The decoder: a grid of codebook entries back to images.

Axes: B batch, C image channels, Z latent channels, h×w grid, H×W image.

Source: arXiv 2012.09841 §B, table 7. Levels are numbered as in the encoder (0 is the image's resolution) and run from
the coarsest; each has one residual block more than the encoder's. The output is not clamped.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from vqgan_core.config import AutoencoderConfig
from vqgan_core.tokenizer.blocks import BlockSequence, Upsample, group_norm
from vqgan_core.tokenizer.encoder import level, middle

__all__ = ["Decoder"]


class Decoder(BlockSequence):
    """`B Z h w` to `B C H W` images, H = f · h; `conv_out` is the last layer that the adaptive weight looks at.

    Args:
        config: of the autoencoder.
        values_per_channel: what it says of a channel of a pixel: a value, or as many as its distribution has.
    """

    conv_out: nn.Conv2d

    def __init__(self, config: AutoencoderConfig, values_per_channel: int = 1) -> None:
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        last = len(widths) - 1
        width = widths[last]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv_in"] = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        layers["middle"] = middle(config, width)
        # From the coarsest grid upwards, as in the original: where f does not divide resolution_px, this is not the
        # encoder's list of sizes.
        size_px = config.resolution_px >> last
        for index in reversed(range(len(widths))):
            num_blocks = config.num_res_blocks + 1
            layers[f"level{index}"] = level(config, width, widths[index], num_blocks=num_blocks, size_px=size_px)
            width = widths[index]
            if index > 0:
                layers[f"upsample{index}"] = Upsample(width)
                size_px *= 2
        layers["norm_out"] = group_norm(config.num_groups, width)
        layers["swish"] = nn.SiLU()
        layers["conv_out"] = nn.Conv2d(width, values_per_channel * config.image_channels, 3, padding=1)
        super().__init__(layers)
