"""The second, coarser level of a VQ-VAE-2.

Axes: B batch, Z latent channels, D codebook width of the top, h×w grid of the bottom, t×u grid of the top, K entries.

The top's grid is quantized first. What it says, decoded to the bottom's resolution, is told to the bottom's quantizer,
which keeps what is left to say, and to the decoder: so coarse structure goes to the top and texture to the bottom.

    features = E(x),   top = q(E_top(features)),   context = D_top(top)
    bottom = q(W [features, context]),   x̂ = D(W' [bottom, context])

Source: arXiv 1906.00446 §3.1 and figure 2a. Departures: the blocks are those of the VQGAN (normalised, swish); one
decoded context serves both the bottom's quantizer and the decoder, where the paper's decoder has an upsampling of its
own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core.config import AutoencoderConfig, DvaeAutoencoderConfig, TopLevelConfig
from vqgan_core.quantizers import build_quantizer
from vqgan_core.tokenizer.blocks import BlockSequence, Downsample, ResidualBlock, Upsample, group_norm

__all__ = ["TopLevel"]


class TopLevel(nn.Module):
    """From the bottom's features to the top's latents, and from its codebook entries to what the bottom is told.

    Args:
        config: of the level.
        autoencoder: of the bottom, whose features are `B Z h w`.
    """

    def __init__(self, config: TopLevelConfig, autoencoder: AutoencoderConfig | DvaeAutoencoderConfig) -> None:
        super().__init__()
        assert isinstance(autoencoder, AutoencoderConfig), "the config refuses a dVAE with a top level"
        width, num_halvings = autoencoder.latent_channels, config.factor.bit_length() - 1
        self.codebook_size = config.codebook_size

        def blocks() -> list[nn.Module]:
            groups, dropout = autoencoder.num_groups, autoencoder.dropout
            count = autoencoder.num_res_blocks
            return [ResidualBlock(width, width, num_groups=groups, dropout=dropout) for _ in range(count)]

        down = [layer for _ in range(num_halvings) for layer in (Downsample(width), *blocks())]
        up = [layer for _ in range(num_halvings) for layer in (*blocks(), Upsample(width))]
        norm = group_norm(autoencoder.num_groups, width)
        self.encoder = BlockSequence(*down, norm, nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.quant_conv = nn.Conv2d(width, config.codebook_dim, 1)
        self.quantizer = build_quantizer(config)
        self.decoder = BlockSequence(nn.Conv2d(config.codebook_dim, width, 3, padding=1), *up)

    def latents(self, features: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B D t u"]:
        """What is quantized; fp32 under autocast, too."""
        hidden = self.encoder(features)
        with torch.autocast(features.device.type, enabled=False):
            out: Tensor = self.quant_conv(hidden.to(self.quant_conv.weight.dtype))
        return out

    def context(self, quantized: Float[Tensor, "B D t u"]) -> Float[Tensor, "B Z h w"]:
        """What codebook entries tell the bottom."""
        out: Tensor = self.decoder(quantized.to(self.quant_conv.weight.dtype))
        return out
