"""Gaussian statistics of features, and the Fréchet distance between two of them.

Axes: `B batch, D feature width`.

Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6. Covariances divide by n - 1, as every FID implementation does.

Departure: with factors Σ = A Aᵀ, tr (Σ₁ Σ₂)^½ is computed as the sum of the singular values of A₁ᵀ A₂, which is the
same number. Iterative matrix roots, and eigenvalues of the unsymmetric product, lose half of the digits when a
covariance is singular, as it is with fewer images than features; usual code then adds a multiple of the identity.
Here nothing is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["GaussianStatistics", "frechet_distance"]


@dataclass(frozen=True)
class GaussianStatistics:
    """Count, mean and scatter matrix of features, in fp64: all that a Fréchet distance needs of a set."""

    count: int
    """Number of feature vectors."""
    mean: Float[Tensor, " D"]
    """Their mean."""
    scatter: Float[Tensor, "D D"]
    """Sum of the outer products of their deviations from the mean."""

    @classmethod
    def of(cls, features: Float[Tensor, "B D"]) -> Self:
        """Statistics of features that are all in memory; `FeatureSums` has those of a stream.

        Raises:
            ValueError: the features are no matrix with at least one row, or not finite.
        """
        if features.ndim != 2 or not len(features):
            raise ValueError(f"expected features of shape (images, width), got {tuple(features.shape)}")
        if not torch.isfinite(features).all():
            raise ValueError("features hold NaN or Inf: the images or the extractor are broken")
        values = features.detach().to("cpu", torch.float64)
        mean = values.mean(dim=0)
        deviations = values - mean
        return cls(len(values), mean, deviations.T @ deviations)

    @property
    def covariance(self) -> Float[Tensor, "D D"]:
        """Unbiased covariance.

        Raises:
            ValueError: there are fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}")
        return self.scatter / (self.count - 1)

    @cached_property
    def factor(self) -> Float[Tensor, "D R"]:
        """A of Σ = A Aᵀ, as wide as the covariance's rank: a Cholesky factor with pivoting."""
        from scipy.linalg.lapack import dpstrf  # noqa: PLC0415 - half the time of importing this package

        packed, pivots, rank, _ = dpstrf(self.covariance.numpy(), lower=1)
        factor = np.empty((len(packed), rank))
        factor[pivots - 1] = np.tril(packed)[:, :rank]
        return torch.from_numpy(factor)


def frechet_distance(first: GaussianStatistics, second: GaussianStatistics) -> float:
    """Squared Fréchet distance |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½.

    It depends on both counts (fewer images, larger distance): compare only values of equal counts.

    Raises:
        ValueError: the feature widths differ, or a set has fewer than two images.
    """
    if len(first.mean) != len(second.mean):
        raise ValueError(f"features of width {len(first.mean)} and {len(second.mean)} cannot be compared")
    cross = torch.linalg.svdvals(first.factor.T @ second.factor).sum()
    means = (first.mean - second.mean).square().sum()
    distance = means + first.covariance.trace() + second.covariance.trace() - 2 * cross
    return max(float(distance), 0.0)  # rounding can leave -1e-15 for equal sets
