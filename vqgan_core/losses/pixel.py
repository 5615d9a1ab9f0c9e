"""Pixel distances. Axes: B batch, C channels (of label maps, classes), H×W image.

Label maps, one-hot, are compared with logits: `bce` takes each class of each pixel for a coin of its own, as the
original's BCELossWithQuant does; `cross_entropy` takes the classes of a pixel for one choice. `logit_laplace`, which
compares images with distributions, has a file of its own.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["PixelKind", "pixel_loss"]

PixelKind = Literal["l1", "l2", "bce", "cross_entropy", "logit_laplace"]


def pixel_loss(kind: PixelKind, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """The mean difference of a reconstruction and its image.

    Args:
        kind: absolute (l1) or squared (l2) difference, or the negative log-likelihood of label maps in nats; the mean
            is over all elements, with cross_entropy over all pixels.
        x: reconstruction; of label maps, logits.
        y: image; of label maps, one-hot.
    """
    match kind:
        case "l1":
            return F.l1_loss(x, y)
        case "l2":
            return F.mse_loss(x, y)
        case "bce":
            return F.binary_cross_entropy_with_logits(x, y)
        case "cross_entropy":
            return F.cross_entropy(x, y.argmax(dim=1))
        case "logit_laplace":
            raise AssertionError("a likelihood looks at the decoder's statistics, not at a reconstruction")
