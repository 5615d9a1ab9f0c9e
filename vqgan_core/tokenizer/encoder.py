"""The encoder: images to a grid that is f = 2^m times coarser.

Axes: B batch, C image channels, Z latent channels, H×W image, h×w grid.

Source: arXiv 2012.09841 §B, table 7. Level 0 has the image's resolution; level m the grid's.
Departure: it is a plain sequence of layers, so that no activation outlives its use at inference (the original keeps
all of them in a list); and a width that does not fit is an error of the config.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from vqgan_core.config import AutoencoderConfig
from vqgan_core.tokenizer.blocks import AttentionBlock, BlockSequence, Downsample, ResidualBlock, group_norm

__all__ = ["Encoder", "level", "middle"]


def level(config: AutoencoderConfig, in_channels: int, channels: int, *, num_blocks: int, size_px: int) -> nn.Module:
    """Residual blocks of one resolution, each followed by attention if the config asks for it at this size.

    Args:
        config: of the autoencoder.
        in_channels: width that comes in.
        channels: width that goes out.
        num_blocks: residual blocks.
        size_px: height of this level at the config's training resolution, whatever the real input is.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(num_blocks):
        width = in_channels if index == 0 else channels
        layers[f"block{index}"] = ResidualBlock(width, channels, num_groups=config.num_groups, dropout=config.dropout)
        if size_px in config.attention_resolutions:
            layers[f"attention{index}"] = AttentionBlock(channels, num_groups=config.num_groups)
    return nn.Sequential(layers)


def middle(config: AutoencoderConfig, channels: int) -> nn.Module:
    """Residual block, attention, residual block at the coarsest level; attention is always there."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["block0"] = ResidualBlock(channels, channels, num_groups=config.num_groups, dropout=config.dropout)
    layers["attention0"] = AttentionBlock(channels, num_groups=config.num_groups)
    layers["block1"] = ResidualBlock(channels, channels, num_groups=config.num_groups, dropout=config.dropout)
    return nn.Sequential(layers)


class Encoder(BlockSequence):
    """`B C H W` images to `B Z h w`, h = H / f."""

    def __init__(self, config: AutoencoderConfig) -> None:
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        last = len(widths) - 1
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv_in"] = nn.Conv2d(config.image_channels, config.base_channels, 3, padding=1)
        width = config.base_channels
        for index, channels in enumerate(widths):
            size_px = config.resolution_px >> index
            layers[f"level{index}"] = level(config, width, channels, num_blocks=config.num_res_blocks, size_px=size_px)
            if index < last:
                layers[f"downsample{index}"] = Downsample(channels)
            width = channels
        layers["middle"] = middle(config, width)
        layers["norm_out"] = group_norm(config.num_groups, width)
        layers["swish"] = nn.SiLU()
        layers["conv_out"] = nn.Conv2d(width, config.latent_channels, 3, padding=1)
        super().__init__(layers)
