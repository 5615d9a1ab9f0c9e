"""Sums of features that are exact, hence the same in whatever order, grouping or number of processes they are taken.

Axes: `B batch, D feature width`.

Additions of floats round, so their result depends on their order: on batches, threads, shards. Here every feature is
put on a grid of 2^-22 and written as two integers of 16 bits; their products have 31 bits, and up to 2^22 of those
add up below 2^53, where fp64 is exact and matrix products may sum as they like. The grid moves a feature by 1.2e-7 at
most, about as much as fp32 does for values around 1, and a Fréchet distance by nothing that is ever printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core.evaluation.frechet import GaussianStatistics

__all__ = ["FeatureSums"]

_GRID = 2.0**22
_LIMB = 2.0**16
_LARGEST = 2.0**31 / _GRID - 1
_MOST = 2**22


@dataclass(frozen=True)
class FeatureSums:
    """How many features, their sum and the sum of their outer products, exactly: high and low parts side by side."""

    count: int
    """Number of feature vectors."""
    total: Float[Tensor, " 2*D"]
    """Sum of the parts."""
    products: Float[Tensor, "2*D 2*D"]
    """Sum of the outer products of the parts."""

    @classmethod
    def of(cls, features: Float[Tensor, "B D"]) -> Self:
        """Sums of one batch.

        Raises:
            ValueError: the features are no matrix with at least one row, not finite, or beyond ±511.
        """
        if features.ndim != 2 or not len(features):
            raise ValueError(f"expected features of shape (images, width), got {tuple(features.shape)}")
        if not bool((features.abs() <= _LARGEST).all()):  # false of NaN, too
            raise ValueError(
                f"features hold NaN, Inf or values beyond ±{_LARGEST:.0f}: the images or the extractor are broken"
            )
        whole = (features.detach().to("cpu", torch.float64) * _GRID).round()
        high = (whole / _LIMB).round()
        parts = torch.cat([high, whole - high * _LIMB], dim=1)
        return cls(len(parts), parts.sum(dim=0), parts.T @ parts)

    def merged(self, other: Self) -> Self:
        """Sums of both sets together.

        Raises:
            ValueError: the widths differ, or there are more than 4,194,304 vectors.
        """
        if len(self.total) != len(other.total):
            raise ValueError(
                f"features of width {len(self.total) // 2} and {len(other.total) // 2} do not mix: same extractor?"
            )
        if self.count + other.count > _MOST:
            raise ValueError(f"{self.count + other.count:,} images: sums stay exact up to {_MOST:,}")
        return type(self)(self.count + other.count, self.total + other.total, self.products + other.products)

    def statistics(self) -> GaussianStatistics:
        """Mean and scatter matrix."""
        width = len(self.total) // 2
        high, low = self.total[:width], self.total[width:]
        mean = (high * _LIMB + low) / (self.count * _GRID)
        mixed = self.products[:width, width:]
        products = self.products[:width, :width] * _LIMB**2 + (mixed + mixed.T) * _LIMB + self.products[width:, width:]
        scatter = products / _GRID**2 - self.count * torch.outer(mean, mean)
        return GaussianStatistics(self.count, mean, (scatter + scatter.T) / 2)
