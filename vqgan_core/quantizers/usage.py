"""How much of a codebook is in use: measured over a fixed set of images, not over a batch.

Axes: K entries.

Perplexity is exp of the entropy of the entries' frequencies: K if all are equally frequent, 1 if one entry does it all.
The original reports neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["CodeUsage", "code_histogram", "divergence_bits"]


def code_histogram(indices: Int[Tensor, "*grid"], codebook_size: int) -> Int[Tensor, " K"]:
    """How often each entry occurs, on the indices' device. Histograms of batches add up."""
    return torch.bincount(indices.flatten(), minlength=codebook_size)


def divergence_bits(first: Int[np.ndarray, " K"], second: Int[np.ndarray, " K"]) -> float:
    """Jensen–Shannon divergence of two histograms' frequencies in bits: 0 of equal ones, 1 of disjoint ones.

    Source: Lin, *Divergence measures based on the Shannon entropy*, IEEE Trans. Information Theory 37(1), 1991.
    """
    p, q = (counts / counts.sum() for counts in (first, second))
    middle = (p + q) / 2
    return max(0.0, _entropy_bits(middle) - (_entropy_bits(p) + _entropy_bits(q)) / 2)


def _entropy_bits(frequencies: Float[np.ndarray, " K"]) -> float:
    used = frequencies[frequencies > 0]
    return float(-(used * np.log2(used)).sum())


@dataclass(frozen=True)
class CodeUsage:
    """Figures of a histogram; each property waits for the device once."""

    histogram: Int[Tensor, " K"]

    @property
    def num_dead(self) -> int:
        """Entries that never occur."""
        return int((self.histogram == 0).sum())

    @property
    def usage(self) -> float:
        """Fraction of entries that occur."""
        return 1 - self.num_dead / len(self.histogram)

    @property
    def perplexity(self) -> float:
        """The exponential of the frequencies' entropy; 0 of an empty histogram."""
        counts = self.histogram.cpu().double()
        frequencies = counts[counts > 0] / counts.sum()
        return float(torch.exp(-(frequencies * frequencies.log()).sum())) if len(frequencies) else 0.0
