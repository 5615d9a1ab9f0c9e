"""From a network's images to pixels."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor


def to_pixels(images: Float[Tensor, "B C H W"]) -> list[NDArray[np.uint8]]:
    """Images in [-1, 1] as uint8 arrays `H W C` (rounded, not truncated)."""
    scaled = (images.float().clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())
