"""Inception score: are samples surely of some class each, and of many classes together?

Axes: `S samples, L classes`.

Source: Salimans et al. 2016 (arXiv 1606.03498): exp of the mean KL divergence between a sample's class probabilities
and those of all samples. It never looks at real images. Like torch-fidelity, images are shuffled before they are
split: a sample set that is ordered by class would otherwise be split into sets of few classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["InceptionScore", "inception_score"]


class InceptionScore(NamedTuple):
    """The mean over splits, and their spread."""

    value: float
    deviation: float
    num_splits: int


def inception_score(logits: Float[Tensor, "S L"], *, num_splits: int, seed: int) -> InceptionScore:
    """Score class logits.

    Args:
        logits: of each image; for the published numbers, of the Inception network without its bias.
        num_splits: parts that are scored apart; 10 in most papers.
        seed: of the shuffle.

    Raises:
        ValueError: there are fewer images than splits.
    """
    if logits.ndim != 2 or len(logits) < num_splits:
        raise ValueError(f"{num_splits} splits need as many images, got logits of shape {tuple(logits.shape)}")
    order = torch.from_numpy(np.random.RandomState(seed).permutation(len(logits)))
    scores = []
    for number in range(num_splits):
        chosen = order[number * len(logits) // num_splits : (number + 1) * len(logits) // num_splits]
        log_p = logits[chosen].double().log_softmax(dim=1)
        p = log_p.exp()
        scores.append((p * (log_p - p.mean(dim=0).log())).sum(dim=1).mean().exp().item())
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), num_splits)
