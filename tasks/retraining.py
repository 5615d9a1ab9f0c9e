"""What a retraining has to do about new images: a pure decision from counts and one divergence.

Axes: K entries of the codebook.

The divergence is Jensen and Shannon's, in bits (0: the same frequencies, 1: no code in common), between how often each
code occurs in the new images and in those that the current prior was trained on, both as the current tokenizer sees
them. Few images differ by chance alone: the expected excess of two samples of one distribution, (k - 1) / (8 ln 2) ·
(1/n + 1/N) for k codes in use (a second-order expansion, as Miller and Madow's for the entropy), is taken off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Integer

from datasets.store import Artifact
from datasets.tokens import TokenDataset
from tasks.retrain_config import RetrainConfig


class Course(StrEnum):
    """What is done."""

    FIRST = "first"
    """Nothing is current yet: everything is made."""
    UNCHANGED = "unchanged"
    """Nothing new: nothing is made."""
    GROWN = "grown"
    """More of the same: new shards and tokens, and the prior trains on."""
    DRIFTED = "drifted"
    """Something else: the tokenizer trains on, everything is encoded again, a new prior is trained."""


@dataclass(frozen=True)
class Change:
    """How the images differ from those of the current models."""

    num_new: int
    num_gone: int
    divergence: float
    """Of the new images' codes, in bits; 0 where there are none."""

    def __str__(self) -> str:
        counts = f"{self.num_new:,} new images, {self.num_gone:,} gone"
        return f"{counts}, divergence of the new ones {self.divergence:.3f} bits"


def decide(change: Change, config: RetrainConfig) -> Course:
    """The course that the thresholds ask for."""
    if change.num_new + change.num_gone < config.min_new_images:
        return Course.UNCHANGED
    return Course.DRIFTED if change.divergence > config.max_divergence else Course.GROWN


def change_between(before: Artifact, after: Artifact) -> Change:
    """How a token dataset differs from an earlier one of the same tokenizer."""
    old, new = TokenDataset.open(before), TokenDataset.open(after)
    known = {key for split in old.splits for key in old.keys(split)}
    present = {key for split in new.splits for key in new.keys(split)}
    counts = np.zeros(len(new.code_histogram()), np.int64)
    for split in new.splits:
        is_new = np.array([key not in known for key in new.keys(split)], dtype=bool)
        codes = new.tokens(split).numpy()[is_new]
        counts += np.bincount(codes.reshape(-1), minlength=len(counts))
    divergence = jensen_shannon(counts, old.code_histogram().numpy()) if present - known else 0.0
    return Change(len(present - known), len(known - present), divergence)


def jensen_shannon(first: Integer[np.ndarray, " K"], second: Integer[np.ndarray, " K"]) -> float:
    """Divergence of two histograms in bits, less what chance alone would give."""
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    in_use = int((middle > 0).sum())
    chance = (in_use - 1) / (8 * math.log(2)) * (1 / float(first.sum()) + 1 / float(second.sum()))
    return float(max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2 - chance))


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    there = p > 0
    return float((p[there] * np.log2(p[there] / q[there])).sum())
