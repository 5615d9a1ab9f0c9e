"""Coordinates as condition tokens: where in an aligned image (a face, say) a window is.

Axes: B batch, H×W image, h×w token grid, f = H / h, L levels.

Source: the original's CoordStage: a ramp that counts the pixels, averaged over each cell, cut into L levels. Departure:
a coordinate of 1 gives L there, a token that does not exist; here it is the last level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def coordinate_ramp(height: int, width: int) -> Float[Tensor, "1 1 H W"]:
    """Each pixel's number, row by row, as a share of all pixels."""
    return (torch.arange(height * width) / (height * width)).view(1, 1, height, width)


def coordinate_tokens(coordinates: Float[Tensor, "B 1 H W"], factor: int, num_levels: int) -> Int[Tensor, "B h w"]:
    """Average coordinates over cells and round them to levels, halves to even.

    Args:
        coordinates: in [0, 1]; what lies outside is clamped. A window's are a crop of the whole image's.
        factor: f, pixels a cell along each axis.
        num_levels: L.

    Raises:
        ValueError: sides that are no multiples of f.
    """
    height, width = coordinates.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"coordinates of {height} x {width} do not divide into cells of {factor} x {factor}")
    means = F.interpolate(coordinates, size=(height // factor, width // factor), mode="area")[:, 0]
    return (means.clamp(0, 1) * num_levels).round().long().clamp(max=num_levels - 1)


def coordinate_image(tokens: Int[Tensor, "B h w"], factor: int, num_levels: int) -> Float[Tensor, "B 1 H W"]:
    """The coordinates that tokens stand for, each cell of one value: for looking at a condition."""
    return F.interpolate(tokens[:, None] / num_levels, scale_factor=factor, mode="nearest")
