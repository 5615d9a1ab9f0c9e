"""Rejection sampling: draw more images than are wanted and keep those that a classifier is surest of.

Axes: M images drawn, C×H×W an image, L classes.

Source: arXiv 2012.09841 §4.4 after Razavi et al. 2019 (arXiv 1906.00446): the fraction that is kept is that of each
class, by the probability of the class that was asked for. What is kept is likelier to be right and less diverse, so
numbers of rejected sets stand beside the fraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Score = Callable[[Float[Tensor, "M C H W"], Int[Tensor, " M"]], Float[Tensor, " M"]]
"""How well each image shows its label; `DomainClassifier.confidence` is one."""


def keep_best(
    scores: Float[Tensor, " M"], fraction: float, labels: Int[Tensor, " M"] | None = None
) -> Int[Tensor, " kept"]:
    """Indices of the best fraction of each class, rounded up, in the order in which they were drawn.

    Args:
        scores: higher is better; of equal ones the earlier is kept.
        fraction: above 0, at most 1.
        labels: classes; None: all images are of one.

    Raises:
        ValueError: a fraction out of range, a score that is not a number, or labels of another number.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: must be above 0 and at most 1")
    if scores.isnan().any():
        raise ValueError(
            f"{int(scores.isnan().sum())} of {len(scores)} scores are no numbers: the classifier is broken"
        )
    labels = torch.zeros_like(scores, dtype=torch.int64) if labels is None else labels.to(scores.device)
    if labels.shape != scores.shape:
        raise ValueError(f"{len(labels)} labels for {len(scores)} scores: give one for each")
    best_first = scores.argsort(descending=True, stable=True)
    kept = []
    for label in sorted(set(labels.tolist())):
        of_class = best_first[labels[best_first] == label]
        kept.append(of_class[: _rounded_up(fraction, len(of_class))])
    return torch.cat(kept).sort().values if kept else best_first


def _rounded_up(fraction: float, count: int) -> int:
    return math.ceil(fraction * count - 1e-9)  # 0.1 · 30 is 3, whatever the binary fractions say
