"""Finite scalar quantisation: each channel is squashed into an interval and rounded.

Axes: B batch, D channels, h×w grid, L_i levels of channel i, K = Π L_i.

Source: arXiv 2309.15505 §3.1 and appendix A.1; there is no codebook, no loss and nothing to keep in use. Departures:

- An even number of levels is centred by artanh, where the paper's listing has tan: a latent of 0 then has the value 0.
- The interval is widened by ε instead of narrowed, so that the outermost values are reached at any number of levels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config import FsqQuantizerConfig
from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.gradient import pass_gradient

__all__ = ["FsqQuantizer"]

EPSILON = 1e-3


class FsqQuantizer(Quantizer):
    """Rounding to a grid in [-1, 1]^D; an index counts its cells, the first channel fastest.

    Args:
        codebook_size: K, the product of the levels.
        codebook_dim: D, their number.
        config: the levels.
    """

    def __init__(self, codebook_size: int, codebook_dim: int, config: FsqQuantizerConfig) -> None:
        config.check_codebook(codebook_size, codebook_dim)
        super().__init__(codebook_size, codebook_dim)
        self.config = config

    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize latents; `quantized` has their dtype, the loss is 0."""
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bounded(latents.float())
            values = pass_gradient("straight_through", bounded, bounded.round())
            quantized = values / self._halves(latents)
        return Quantized(quantized.to(latents.dtype), self._index(values.detach()), quantized.new_zeros(()))

    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        """The indices of the grid's cells."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._index(self._bounded(latents.float()).round())

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The cells of indices, in [-1, 1], fp32."""
        levels = self._column(self.config.levels, indices.device)
        digits = indices[:, None] // self._strides(indices.device) % levels
        return (digits - levels // 2).float() / (levels // 2)

    def _bounded(self, z: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Squash channel i into (-L_i/2, L_i/2); rounding then gives exactly L_i values."""
        levels = self._column(self.config.levels, z.device)
        half = (levels - 1) * (1 + EPSILON) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    def _index(self, values: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        digits = values.round().long() + self._halves(values)
        return (digits * self._strides(values.device)).sum(dim=1)

    def _halves(self, like: Tensor) -> Int[Tensor, "D 1 1"]:
        return self._column([level // 2 for level in self.config.levels], like.device)

    def _strides(self, device: torch.device) -> Int[Tensor, "D 1 1"]:
        levels = torch.tensor((1, *self.config.levels[:-1]), device=device)
        return rearrange(levels.cumprod(dim=0), "d -> d 1 1")

    # Made anew each time, because a tokenizer that is loaded from files has no buffers but those in its weights.
    @staticmethod
    def _column(values: tuple[int, ...] | list[int], device: torch.device) -> Int[Tensor, "D 1 1"]:
        return rearrange(torch.tensor(values, device=device), "d -> d 1 1")
