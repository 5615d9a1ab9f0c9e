"""Precision, recall, density and coverage of a sample set: do samples look real, and is every kind of image sampled?

Axes: `R real, S samples, D feature width`.

Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), eq. 1-2. A set's manifold is the union of balls around its
features, each as large as the distance to the k-th nearest other feature of the same set, border included. Precision
is the share of samples on the manifold of the real images, recall the share of real images on that of the samples.

Density and coverage: Naeem et al. 2020 (arXiv 2002.09797), eq. 3-4, border left out as by its authors. Density counts
how many real balls a sample lies in, so that one lonely real image with a huge ball makes no sample real; coverage is
the share of real images whose ball holds a sample.

Departures: distances are fp64 differences, not the fp16 matrix products of the authors' code, and both sets are used
whole. The values depend on k and on both counts; between two halves of a real set they are about 0.7, not 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "precision_recall"]


class PrecisionRecall(NamedTuple):
    """Both shares, and the k that they hold for."""

    precision: float
    recall: float
    num_neighbours: int


class DensityCoverage(NamedTuple):
    """Both values, and the k that they hold for. Density can be above 1."""

    density: float
    coverage: float
    num_neighbours: int


def precision_recall(
    real: Float[Tensor, "R D"], samples: Float[Tensor, "S D"], *, num_neighbours: int = 3, batch_size: int = 1024
) -> PrecisionRecall:
    """Measure precision and recall in feature space.

    Args:
        real: features of the reference images.
        samples: features of the generated images, of the same extractor.
        num_neighbours: k.
        batch_size: rows of the distance matrix that are held at once; changes no value.

    Raises:
        ValueError: a set has no k-th neighbour, or the widths differ.
    """
    _require_neighbours(real, samples, num_neighbours)
    real, samples = real.double(), samples.double()
    precision = _on_manifold(samples, real, num_neighbours, batch_size).double().mean().item()
    recall = _on_manifold(real, samples, num_neighbours, batch_size).double().mean().item()
    return PrecisionRecall(precision, recall, num_neighbours)


def density_coverage(
    real: Float[Tensor, "R D"], samples: Float[Tensor, "S D"], *, num_neighbours: int = 5, batch_size: int = 1024
) -> DensityCoverage:
    """Measure density and coverage in feature space; arguments and errors as for `precision_recall`."""
    _require_neighbours(real, samples, num_neighbours)
    real, samples = real.double(), samples.double()
    radii = _radii(real, num_neighbours, batch_size)
    num_balls, nearest = 0, torch.full_like(radii, torch.inf)
    for part in torch.split(samples, batch_size):
        distances = _distances(part, real)
        num_balls += int((distances < radii).sum())
        nearest = torch.minimum(nearest, distances.amin(dim=0))
    coverage = (nearest < radii).double().mean().item()
    return DensityCoverage(num_balls / (num_neighbours * len(samples)), coverage, num_neighbours)


def _require_neighbours(real: Tensor, samples: Tensor, num_neighbours: int) -> None:
    if real.ndim != 2 or samples.ndim != 2 or real.shape[1] != samples.shape[1]:
        raise ValueError(f"features of shape {tuple(real.shape)} and {tuple(samples.shape)} cannot be compared")
    smaller = min(len(real), len(samples))
    if not 1 <= num_neighbours < smaller:
        raise ValueError(
            f"k = {num_neighbours} neighbours need sets of at least k + 1 images; the smaller has {smaller}"
        )


def _on_manifold(
    points: Float[Tensor, "P D"], manifold: Float[Tensor, "M D"], num_neighbours: int, batch_size: int
) -> Bool[Tensor, " P"]:
    """Which points lie in the ball of at least one point of the manifold."""
    radii = _radii(manifold, num_neighbours, batch_size)
    parts = [(_distances(part, manifold) <= radii).any(dim=1) for part in torch.split(points, batch_size)]
    return torch.cat(parts)


def _radii(points: Float[Tensor, "M D"], num_neighbours: int, batch_size: int) -> Float[Tensor, " M"]:
    """Distance of each point to its k-th nearest other point: the point itself is the smallest of k + 1."""
    parts = [
        _distances(part, points).kthvalue(num_neighbours + 1, dim=1).values for part in torch.split(points, batch_size)
    ]
    return torch.cat(parts)


def _distances(first: Float[Tensor, "A D"], second: Float[Tensor, "M D"]) -> Float[Tensor, "A M"]:
    # Differences, not |a|² + |b|² - 2ab: that leaves a point at a distance above 0 from itself.
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
