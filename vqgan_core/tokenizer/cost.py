"""What a tokenizer costs before it is built: parameters and floating point operations of one image.

Axes: C channels, D codebook width, K entries, H×W image, h×w grid.

A multiply-add is two operations. Convolutions, attention and the search of the nearest entry are counted, as PyTorch
counts them (`torch.utils.flop_counter`) in a forward pass on the meta device: nothing is allocated or computed. Norms,
activations and the gather of entries are left out (below 1 % at usual sizes). The search is 2·h·w·K·D: one product of
each latent with each entry (of a dVAE D is the latents' width, and the product gives logits).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vqgan_core.config import TokenizerConfig, TopLevelConfig
from vqgan_core.tokenizer.model import Tokenizer

__all__ = ["TokenizerCost", "forward_flops", "num_parameters", "tokenizer_cost"]


@dataclass(frozen=True)
class TokenizerCost:
    """Costs of one tokenizer; operations are those of one image, forward."""

    num_parameters: int
    """Encoder, decoder and codebook."""
    encoder_flops: float
    """Encoder and the projection to the codebook's width."""
    search_flops: float
    """Comparing latents with entries, once for each index; has no backward pass. Some quantizers do without."""
    decoder_flops: float
    """Projection back, and decoder."""

    @property
    def encode_flops(self) -> float:
        """Image to indices."""
        return self.encoder_flops + self.search_flops

    @property
    def reconstruct_flops(self) -> float:
        """Image to indices and back."""
        return self.encode_flops + self.decoder_flops


def tokenizer_cost(config: TokenizerConfig, size_px: int | None = None) -> TokenizerCost:
    """Count a tokenizer's parameters and operations without allocating it.

    Args:
        config: of the tokenizer.
        size_px: height and width of the image; None: the training resolution.

    Raises:
        ValueError: the downsampling factor does not divide the size.
    """
    autoencoder = config.autoencoder
    size = autoencoder.resolution_px if size_px is None else size_px
    if size % config.size_multiple:
        raise ValueError(f"size_px {size} is no multiple of the factor f = {config.size_multiple}")
    grid = size // autoencoder.downsampling_factor
    with torch.device("meta"):
        tokenizer = Tokenizer(config)
    told = 0 if config.top is None else autoencoder.latent_channels  # what a top level says of the features
    encoder = forward_flops(tokenizer.encoder, (1, autoencoder.image_channels, size, size))
    encoder += forward_flops(tokenizer.quant_conv, (1, autoencoder.latent_channels + told, grid, grid))
    decoder = forward_flops(
        nn.Sequential(tokenizer.post_quant_conv, tokenizer.decoder), (1, config.codebook_dim + told, grid, grid)
    )
    search = _search_flops(config, grid)
    if tokenizer.top is not None and config.top is not None:
        above, top = grid // config.top.factor, tokenizer.top
        context = forward_flops(top.decoder, (1, config.top.codebook_dim, above, above))
        latents = forward_flops(
            nn.Sequential(top.encoder, top.quant_conv), (1, autoencoder.latent_channels, grid, grid)
        )
        encoder, decoder = encoder + latents + context, decoder + context
        search += _search_flops(config.top, above)
    return TokenizerCost(num_parameters(tokenizer), encoder, search, decoder)


def _search_flops(config: TokenizerConfig | TopLevelConfig, grid: int) -> float:
    if config.quantizer.kind in ("fsq", "lfq"):
        return 0.0
    return 2.0 * grid**2 * config.quantizer.indices_per_latent * config.codebook_size * config.latent_dim


def num_parameters(module: nn.Module) -> int:
    """All trained numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def forward_flops(module: nn.Module, *shapes: tuple[int, ...]) -> float:
    """Operations of one forward pass of a module on the meta device, given the shapes of its inputs."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - brings Triton along

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*(torch.empty(shape, device="meta") for shape in shapes))
    return float(counter.get_total_flops())
