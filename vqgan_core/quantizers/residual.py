"""Residual quantisation: a latent becomes a sum of entries, each nearest to what the ones before left over.

Axes: B batch, D width, h×w grid, R depth, K entries.

    r_0 = z,   k_d = argmin ‖r_{d-1} - e_k‖,   r_d = r_{d-1} - e(k_d),   ẑ_d = Σ_{i ≤ d} e(k_i)

One codebook serves all depths; it follows the residuals by moving averages (see `ema`).

Source: arXiv 2203.01941 §3.1. Departure: the commitment loss is the mean over depths, where the paper has the sum: so β
means the same at any depth.

The R indices of a latent stand side by side, the coarsest first: a grid is `B h w·R`, in raster order what that paper's
prior predicts position by position and depth by depth. So a token dataset and every prior read it as they read any
other grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config import ResidualQuantizerConfig
from vqgan_core.quantizers.base import Quantized
from vqgan_core.quantizers.ema import AveragedCodebook
from vqgan_core.quantizers.gradient import pass_gradient
from vqgan_core.quantizers.vector import gather, search

__all__ = ["ResidualQuantizer"]


class ResidualQuantizer(AveragedCodebook):
    """Sums of entries; the loss is the mean commitment to the partial sums.

    Args:
        codebook_size: K.
        codebook_dim: D.
        config: depth, β, γ, ε.
    """

    config: ResidualQuantizerConfig

    def __init__(self, codebook_size: int, codebook_dim: int, config: ResidualQuantizerConfig) -> None:
        super().__init__(codebook_size, codebook_dim, config)
        self.indices_per_latent = config.depth

    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize latents; `quantized` has their dtype."""
        with torch.autocast(latents.device.type, enabled=False):
            z = self.normalize(latents)
            indices = self.encode(z)
            sums = self._entries(indices).cumsum(dim=1)
            loss = self.config.commitment_weight * F.mse_loss(z[:, None].expand_as(sums), sums)
            quantized = pass_gradient("straight_through", z, sums[:, -1])
        return Quantized(quantized.to(latents.dtype), indices, loss)

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h wR"]:
        """The indices of the entries that add up to latents."""
        residual, chosen = self.normalize(latents), []
        for _ in range(self.config.depth):
            chosen.append(search(residual, self.codebook))
            residual = residual - gather(chosen[-1], self.codebook)
        return rearrange(torch.stack(chosen, dim=-1), "b h w r -> b h (w r)")

    def decode(self, indices: Int[Tensor, "B h wR"]) -> Float[Tensor, "B D h w"]:
        """The sums of the entries of indices, fp32.

        Raises:
            ValueError: the grid's width is no multiple of the depth.
        """
        return self._entries(indices).sum(dim=1)

    def targets(self, latents: Float[Tensor, "B D h w"], indices: Int[Tensor, "B h wR"]) -> Float[Tensor, "B D h wR"]:
        """The residuals that the indices were chosen for."""
        entries = self._entries(indices)
        before = entries.cumsum(dim=1) - entries
        return rearrange(latents.float()[:, None] - before, "b r d h w -> b d h (w r)")

    def _entries(self, indices: Int[Tensor, "B h wR"]) -> Float[Tensor, "B R D h w"]:
        depth = self.config.depth
        if indices.shape[2] % depth:
            raise ValueError(
                f"a grid of {indices.shape[1]}x{indices.shape[2]} indices: with depth {depth} its width is a multiple "
                f"of {depth}; do these tokens belong to another tokenizer?"
            )
        apart = rearrange(indices, "b h (w r) -> (b r) h w", r=depth)
        return rearrange(gather(apart, self.codebook.detach()), "(b r) d h w -> b r d h w", r=depth)
