"""Precision and recall against the definition, written as loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.evaluation import density_coverage, precision_recall


def share_on_manifold(points: Tensor, manifold: Tensor, k: int) -> float:
    """The definition, one point at a time."""
    hits = 0
    for point in points:
        for i, centre in enumerate(manifold):
            others = sorted(float((centre - other).norm()) for j, other in enumerate(manifold) if j != i)
            if float((point - centre).norm()) <= others[k - 1]:
                hits += 1
                break
    return hits / len(points)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_the_definition(k: int, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(k)
    real = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    samples = 0.7 * torch.randn(30, 3, generator=generator, dtype=torch.float64) + 0.5
    result = precision_recall(real, samples, num_neighbours=k, batch_size=batch_size)
    assert result.precision == share_on_manifold(samples, real, k)
    assert result.recall == share_on_manifold(real, samples, k)
    assert result.num_neighbours == k


def test_a_lost_mode_costs_recall_and_not_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 2, generator=generator)
    real[100:] += 50
    samples = torch.randn(100, 2, generator=generator)
    result = precision_recall(real, samples, num_neighbours=3)
    assert result.precision > 0.8
    assert result.recall < 0.55


def test_equal_sets_are_perfect_even_with_far_means_and_duplicates() -> None:
    points = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * 1e-3 + 1e3
    points[10:20] = points[0]  # radius 0: the border has to count
    result = precision_recall(points, points.clone(), num_neighbours=3)
    assert (result.precision, result.recall) == (1, 1)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least k \\+ 1 images; the smaller has 3"):
        precision_recall(torch.randn(9, 2), torch.randn(3, 2), num_neighbours=3)
    with pytest.raises(ValueError, match="cannot be compared"):
        precision_recall(torch.randn(9, 2), torch.randn(9, 3))


def test_what_lies_on_the_border_is_neither_dense_nor_covered() -> None:
    """As in the authors' code: on whole numbers, balls with k = 1 have radius 1, and the samples lie on it."""
    real = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    found = density_coverage(real, torch.tensor([[2.0], [12.0], [9.0]]), num_neighbours=1)
    assert (found.density, found.coverage) == (0, 0)
    inside = density_coverage(real, torch.tensor([[1.5], [12.0]]), num_neighbours=1)
    assert (inside.density, inside.coverage) == (0.5, 0.25)
