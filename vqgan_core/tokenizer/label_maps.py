"""Label maps: a class for each pixel, which the networks see as one channel a class.

Axes: B batch, C classes, H×W image.

A label map stays one small integer a pixel until it is on the device: the original makes one-hot maps of 64 bits on
the host, 96 MB a sample with 183 classes at 256².
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor

__all__ = ["check_labels", "one_hot"]


def check_labels(labels: Integer[Tensor, "B H W"], num_classes: int) -> None:
    """Refuse what is no label map of so many classes. It reads the labels: do it before they go to a GPU.

    Raises:
        ValueError: another number of axes, no integers, or a label outside the classes.
    """
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"label maps of shape {tuple(labels.shape)}, {labels.dtype}: expected integers (batch, H, W)")
    if labels.numel():
        low, high = (int(bound) for bound in torch.aminmax(labels.long()))
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"label {low if low < 0 else high} is outside the {num_classes} classes: allowed are 0 to "
                f"{num_classes - 1}; give unlabelled pixels a class of their own, and set image_channels to the number "
                "of classes"
            )


def one_hot(labels: Integer[Tensor, "B H W"], num_classes: int) -> Float[Tensor, "B C H W"]:
    """The maps as the networks see them, on the labels' device; a label outside the classes is 0 in every channel."""
    classes = torch.arange(num_classes, device=labels.device).view(-1, 1, 1)
    return (labels.long()[:, None] == classes).float()
