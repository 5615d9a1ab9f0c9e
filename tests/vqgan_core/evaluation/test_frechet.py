"""The Fréchet distance against its closed form and scipy's matrix root; statistics that merge."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from vqgan_core.evaluation import GaussianStatistics, frechet_distance


def gaussian(mean: Tensor, covariance: Tensor, count: int = 1000) -> GaussianStatistics:
    return GaussianStatistics(count, mean.double(), covariance.double() * (count - 1))


def correlated(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixing + seed


def test_closed_form_of_diagonal_gaussians() -> None:
    means = torch.tensor([[0.0, 1.0, -2.0], [0.5, 1.0, 2.0]])
    deviations = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.5, 1.5]])
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    first, second = (gaussian(m, torch.diag(d.square())) for m, d in zip(means, deviations, strict=True))
    assert frechet_distance(first, second) == pytest.approx(expected.item(), rel=1e-12)


def test_agrees_with_scipys_matrix_root_and_with_eigenvalues() -> None:
    first, second = correlated(500, 24, seed=1), correlated(700, 24, seed=2)
    a, b = np.cov(first.numpy(), rowvar=False), np.cov(second.numpy(), rowvar=False)
    shift = first.mean(0) - second.mean(0)
    outside = float(shift @ shift) + np.trace(a) + np.trace(b)
    ours = frechet_distance(GaussianStatistics.of(first), GaussianStatistics.of(second))
    assert ours == pytest.approx(outside - 2 * np.trace(scipy.linalg.sqrtm(a @ b)).real, rel=1e-9)
    assert ours == pytest.approx(outside - 2 * np.sqrt(np.linalg.eigvals(a @ b).real).sum(), rel=1e-9)


def test_singular_covariances_need_no_added_identity() -> None:
    features = correlated(10, 64, seed=3)  # rank 9 of 64
    statistics = GaussianStatistics.of(features)
    assert frechet_distance(statistics, statistics) == pytest.approx(0, abs=1e-10)
    moved = GaussianStatistics.of(features + 1)
    assert frechet_distance(statistics, moved) == pytest.approx(64, rel=1e-10)


def test_distance_is_symmetric_and_scales_with_the_square() -> None:
    first, second = correlated(200, 8, seed=4), correlated(200, 8, seed=5)
    forward = frechet_distance(GaussianStatistics.of(first), GaussianStatistics.of(second))
    backward = frechet_distance(GaussianStatistics.of(second), GaussianStatistics.of(first))
    scaled = frechet_distance(GaussianStatistics.of(3 * first), GaussianStatistics.of(3 * second))
    assert forward == pytest.approx(backward, rel=1e-10)
    assert scaled == pytest.approx(9 * forward, rel=1e-10)


def test_fp32_features_are_summed_in_fp64() -> None:
    features = correlated(64, 4, seed=8).float()
    statistics = GaussianStatistics.of(features)
    assert statistics.scatter.dtype == torch.float64
    assert np.allclose(statistics.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-12)


def test_sets_that_cannot_be_measured_are_refused() -> None:
    good = GaussianStatistics.of(torch.randn(5, 3))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        frechet_distance(good, GaussianStatistics.of(torch.randn(1, 3)))
    with pytest.raises(ValueError, match="width 3 and 4"):
        frechet_distance(good, GaussianStatistics.of(torch.randn(5, 4)))
    with pytest.raises(ValueError, match="NaN or Inf"):
        GaussianStatistics.of(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match=r"got \(0, 3\)"):
        GaussianStatistics.of(torch.zeros(0, 3))
