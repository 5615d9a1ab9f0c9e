"""Pixel distances. Axes: B batch, C channels, H×W image."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["pixel_loss"]


def pixel_loss(
    kind: Literal["l1", "l2"], x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]
) -> Float[Tensor, ""]:
    """Mean absolute (l1) or mean squared (l2) difference over all elements."""
    return F.l1_loss(x, y) if kind == "l1" else F.mse_loss(x, y)
