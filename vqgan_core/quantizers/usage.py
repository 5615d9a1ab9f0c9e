"""How much of a codebook is in use: measured over a fixed set of images, not over a batch.

Axes: K entries.

Perplexity is exp of the entropy of the entries' frequencies: K if all are equally frequent, 1 if one entry does it all.
The original reports neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["CodeUsage", "code_histogram"]


def code_histogram(indices: Int[Tensor, "*grid"], codebook_size: int) -> Int[Tensor, " K"]:
    """How often each entry occurs, on the indices' device. Histograms of batches add up."""
    return torch.bincount(indices.flatten(), minlength=codebook_size)


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
