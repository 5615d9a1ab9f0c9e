"""What every quantizer promises.

Axes: B batch, D codebook width, h×w grid, R indices for one latent (1, but for residual quantisation), K entries.

A quantizer's forward changes no state, so it may run several times in a step (gradient accumulation, activation
checkpointing, validation). What moves without a gradient moves in `end_step`, once for each optimiser step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Quantized", "Quantizer"]


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of latents."""

    quantized: Float[Tensor, "B D h w"]
    """Codebook entries; their gradient goes on to the latents."""
    indices: Int[Tensor, "B h wR"]
    """Which entries, int64."""
    loss: Float[Tensor, ""]
    """What trains the quantizer and ties latents to entries, fp32."""


class Quantizer(nn.Module, ABC):
    """Latents to indices and back.

    Args:
        codebook_size: K.
        codebook_dim: D.
    """

    indices_per_latent: int = 1
    """R: the indices of one latent stand side by side, so that a row of the grid has w·R of them."""

    def __init__(self, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim

    @abstractmethod
    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize, with the loss; `quantized` has the latents' dtype."""

    @abstractmethod
    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h wR"]:
        """The indices alone; the same latents always give the same indices."""

    @abstractmethod
    def decode(self, indices: Int[Tensor, "B h wR"]) -> Float[Tensor, "B D h w"]:
        """What indices stand for, fp32."""

    def targets(self, latents: Float[Tensor, "B D h w"], indices: Int[Tensor, "B h wR"]) -> Float[Tensor, "B D h wR"]:
        """The vector that each index was chosen for: its latent, or what was left of it."""
        del indices
        return latents

    def end_step(self, targets: Sequence[Float[Tensor, "B D h wR"]], indices: Sequence[Int[Tensor, "B h wR"]]) -> None:
        """Do what follows an optimiser step.

        Args:
            targets: of all pieces of the step's batch.
            indices: chosen for them.
        """
