"""What every quantizer promises, and how one is built from a config.

Axes: B batch, D codebook width, h×w grid, K entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Quantized", "Quantizer"]


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of latents."""

    quantized: Float[Tensor, "B D h w"]
    """Codebook entries; their gradient goes straight through to the latents."""
    indices: Int[Tensor, "B h w"]
    """Which entries, int64."""
    loss: Float[Tensor, ""]
    """Codebook and commitment terms, fp32."""


class Quantizer(Protocol):
    """Latents to indices and back; an nn.Module."""

    codebook_size: int
    codebook_dim: int

    def __call__(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize, with the loss that trains the codebook."""
        ...

    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        """The indices alone; the same latents always give the same indices."""
        ...

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The entries of indices."""
        ...
