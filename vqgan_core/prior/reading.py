"""How a batch is read where that differs from the tokens themselves: in training, and when an image is completed.

Axes: B batch, N tokens. Everything is in raster order; what is predicted, and scored, is always the clean tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """What is read in place of the tokens, and in which order."""

    inputs: Int[Tensor, "B N"] | None = None
    """Corrupted tokens; None: the tokens."""
    hidden: Bool[Tensor, "B N"] | None = None
    """Cells that are not read; None: all are."""
    orders: Int[Tensor, "B N"] | None = None
    """Cells in the order in which they are read, for priors of order random_annealed; None: the prior's order."""
