"""SimVQ: the nearest entry of a frozen random codebook, seen through one learned linear map.

Axes: B batch, D width, h×w grid, K entries.

Every gradient moves the map W, and with it all entries at once, so that none is left behind.

Source: arXiv 2411.02038: entries C W, with the codebook and commitment terms of arXiv 1711.00937 eq. 3. C is drawn
from N(0, 1/D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.config import SimvqQuantizerConfig
from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.gradient import pass_gradient
from vqgan_core.quantizers.precision import full_precision
from vqgan_core.quantizers.vector import search

__all__ = ["SimvqQuantizer"]


class SimvqQuantizer(Quantizer):
    """Nearest entry of C W; C is a buffer.

    Args:
        codebook_size: K.
        codebook_dim: D.
        config: β, gradient.
    """

    codebook: Tensor

    def __init__(self, codebook_size: int, codebook_dim: int, config: SimvqQuantizerConfig) -> None:
        super().__init__(codebook_size, codebook_dim)
        self.config = config
        self.register_buffer("codebook", torch.empty(codebook_size, codebook_dim))
        self.map = nn.Linear(codebook_dim, codebook_dim, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw codebook and map anew."""
        self.codebook.normal_(0, self.codebook_dim**-0.5)
        self.map.reset_parameters()

    @property
    def entries(self) -> Float[Tensor, "K D"]:
        """The codebook as latents are compared with it, for the search alone."""
        with torch.no_grad(), full_precision(self.codebook.device.type):
            return F.linear(self.codebook, self.map.weight)

    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize latents; `quantized` has their dtype."""
        with torch.autocast(latents.device.type, enabled=False):
            z = latents.float()
            indices = search(z, self.entries)
            entries = self.decode(indices)
            codebook = F.mse_loss(entries, z.detach())
            loss = codebook + self.config.commitment_weight * F.mse_loss(z, entries.detach())
            quantized = pass_gradient(self.config.gradient, z, entries)
        return Quantized(quantized.to(latents.dtype), indices, loss)

    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        """The indices of the nearest entries."""
        return search(latents.float(), self.entries)

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The entries of indices, fp32; only the gathered ones are mapped."""
        with full_precision(self.codebook.device.type):
            entries: Tensor = self.map(F.embedding(indices, self.codebook))
            return rearrange(entries, "b h w d -> b d h w")
