"""Spectral normalisation: a layer's weight is divided by its largest singular value.

Axes: O output channels, C·kh·kw inputs of a convolution.

Source: arXiv 1802.05957 algorithm 1: one power iteration for each forward in training, from where the last one ended.
Departure from PyTorch's own: it stays fp32 under autocast, where a product in bf16 would be the norm of another matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["SpectralNorm"]

FIRST_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """A parametrization of weights (`torch.nn.utils.parametrize`).

    Args:
        weight: as it is at first; the singular vectors begin at its.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Float[Tensor, "O C kh kw"]) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        self.register_buffer("left", F.normalize(torch.randn_like(rows[:, 0]), dim=0))
        self.register_buffer("right", F.normalize(torch.randn_like(rows[0]), dim=0))
        self._iterate(rows, FIRST_ITERATIONS)

    def forward(self, weight: Float[Tensor, "O C kh kw"]) -> Float[Tensor, "O C kh kw"]:
        """The weight with a largest singular value of 1."""
        with torch.autocast(weight.device.type, enabled=False):
            rows = weight.flatten(1)
            if self.training:
                self._iterate(rows.detach(), 1)
            # Copies, because the next forward moves both vectors before this one's backward has read them.
            return weight / (self.left.clone() @ rows @ self.right.clone())

    @torch.no_grad()
    def _iterate(self, rows: Float[Tensor, "O inputs"], num_iterations: int) -> None:
        for _ in range(num_iterations):
            self.right.copy_(F.normalize(self.left @ rows, dim=0))
            self.left.copy_(F.normalize(rows @ self.right, dim=0))
