"""How close reconstructed label maps are to their originals: pixel accuracy, mean IoU, cross-entropy.

Axes: B batch, C classes, H×W pixels.

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (2010) §3.3: intersection over union of a class
is counted over the pixels of the whole set, and the mean is over classes. Here it is over the classes that occur in the
originals or in the reconstructions: one that occurs in neither has no IoU.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from vqgan_core.evaluation.metric import Metric

__all__ = ["confusion", "label_map_metrics", "mean_iou"]


def confusion(
    labels: Integer[Tensor, "B H W"], found: Integer[Tensor, "B H W"], num_classes: int
) -> Int64[Tensor, "C C"]:
    """How many pixels of each class (rows) were taken for each (columns)."""
    pairs = labels.long() * num_classes + found.long()
    return torch.bincount(pairs.flatten(), minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_iou(counts: Int64[Tensor, "C C"]) -> float:
    """The mean of the classes' intersections over unions.

    Raises:
        ValueError: no pixel was counted.
    """
    both = counts.diagonal().double()
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    if not bool(union.any()):
        raise ValueError("there is no pixel to score: the reference set is empty")
    return float((both[union > 0] / union[union > 0]).mean())


def label_map_metrics(
    pairs: Iterable[tuple[Integer[Tensor, "B H W"], Float[Tensor, "B C H W"]]], num_classes: int, *, reference: str
) -> list[Metric]:
    """Score batches of (label maps, logits).

    Args:
        pairs: batches.
        num_classes: C.
        reference: name of the originals, with the fingerprint of their artifact.

    Raises:
        ValueError: there is no label map.
    """
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    entropy, num_maps = 0.0, 0
    for labels, logits in pairs:
        counts += confusion(labels, logits.argmax(dim=1), num_classes).cpu()
        entropy += F.cross_entropy(logits.float(), labels.long(), reduction="sum").item()
        num_maps += len(labels)
    iou = mean_iou(counts)
    num_pixels = int(counts.sum())
    common = {"n": num_maps, "reference": reference, "library": f"torch {torch.__version__}"}
    accuracy = int(counts.diagonal().sum()) / num_pixels
    return [
        Metric(name="pixel accuracy", value=accuracy, higher_is_better=True, note="over the set's pixels", **common),
        Metric(
            name="mean IoU", value=iou, higher_is_better=True,
            note=f"over the set's pixels, mean of the classes (of {num_classes}) that occur", **common,
        ),
        Metric(name="cross-entropy", value=entropy / num_pixels, unit="nats/pixel", higher_is_better=False, **common),
    ]  # fmt: skip
