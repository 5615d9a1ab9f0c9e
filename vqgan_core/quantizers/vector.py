"""Vector quantisation: each latent becomes its nearest codebook entry.

Axes: B batch, D width, h×w grid, N = B·h·w latents, K entries.

Source: arXiv 1711.00937 eq. 3 (L_VQ, straight-through), arXiv 2012.09841 eq. 2 and 4; unit vectors from
arXiv 2110.04627 §3.2. Departures:

- β scales the commitment term, as in the paper. The original's code scales the codebook term instead ("legacy"
  here, for imported models); both have the same value and different gradients.
- Distances are always fp32 (see precision), leave out |z|², which is the same for all entries, and are computed in
  slices of rows, so that memory does not grow with the batch. Entries are gathered, never multiplied by one-hot rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.config import VectorQuantizerConfig
from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.gradient import pass_gradient
from vqgan_core.quantizers.precision import full_precision

__all__ = ["VectorQuantizer", "gather", "nearest", "search"]

# Distances held at once: 256 MiB of fp32.
MAX_DISTANCES = 2**26


@torch.no_grad()
def nearest(latents: Float[Tensor, "N D"], codebook: Float[Tensor, "K D"]) -> Int[Tensor, " N"]:
    """The index of the nearest entry by Euclidean distance, in fp32; of equals the first."""
    with full_precision(latents.device.type):
        entries = codebook.float()
        squares = entries.square().sum(dim=1)
        slices = torch.split(latents.float(), max(1, MAX_DISTANCES // len(entries)))
        return torch.cat([torch.addmm(squares, rows, entries.T, alpha=-2).argmin(dim=1) for rows in slices])


def search(latents: Float[Tensor, "B D h w"], codebook: Float[Tensor, "K D"]) -> Int[Tensor, "B h w"]:
    """The indices of the nearest entries of a grid of latents."""
    batch, _, height, width = latents.shape
    flat = nearest(rearrange(latents, "b d h w -> (b h w) d"), codebook)
    return rearrange(flat, "(b h w) -> b h w", b=batch, h=height, w=width)


def gather(indices: Int[Tensor, "B h w"], codebook: Float[Tensor, "K D"]) -> Float[Tensor, "B D h w"]:
    """The entries of a grid of indices, fp32."""
    return rearrange(F.embedding(indices, codebook.float()), "b h w d -> b d h w")


class VectorQuantizer(Quantizer):
    """Nearest entry, straight-through gradient, codebook and commitment loss.

    Args:
        codebook_size: K.
        codebook_dim: D.
        config: β and its place, unit vectors.
    """

    def __init__(self, codebook_size: int, codebook_dim: int, config: VectorQuantizerConfig) -> None:
        super().__init__(codebook_size, codebook_dim)
        self.config = config
        self.codebook = nn.Parameter(torch.empty(codebook_size, codebook_dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the entries anew: uniform in ±1/K, of unit length where unit vectors are compared."""
        self.codebook.uniform_(-1 / self.codebook_size, 1 / self.codebook_size)
        if self.config.l2_normalize:
            # Entries of length 1/K would get gradients K times too large through the normalisation.
            self.codebook.copy_(F.normalize(self.codebook, dim=1))

    @property
    def entries(self) -> Float[Tensor, "K D"]:
        """The codebook as latents are compared with it."""
        return F.normalize(self.codebook, dim=1) if self.config.l2_normalize else self.codebook

    def normalize(self, latents: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Latents, fp32, as they are compared with entries."""
        latents = latents.float()
        return F.normalize(latents, dim=1) if self.config.l2_normalize else latents

    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize latents; `quantized` has their dtype."""
        with torch.autocast(latents.device.type, enabled=False):
            z = self.normalize(latents)
            indices = search(z, self.entries)
            entries = self.decode(indices)
            beta = self.config.commitment_weight
            commitment = F.mse_loss(z, entries.detach())
            codebook = F.mse_loss(entries, z.detach())
            legacy = self.config.beta_placement == "legacy"
            loss = commitment + beta * codebook if legacy else codebook + beta * commitment
            quantized = pass_gradient(self.config.gradient, z, entries)
        return Quantized(quantized.to(latents.dtype), indices, loss)

    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        """The indices of the nearest entries."""
        return search(self.normalize(latents), self.entries)

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The entries of indices, fp32."""
        return gather(indices, self.entries)
