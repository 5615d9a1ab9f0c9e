"""Sums are exact: the same bits in every order and grouping, and those of plain fp64 statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vqgan_core.evaluation import FeatureSums, GaussianStatistics


@pytest.fixture(scope="module")
def features() -> Tensor:
    """Like those of a ReLU: from 0 to about 10, with small and large widths, and correlated."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(40, 40, generator=generator) * torch.logspace(-3, 0, 40)
    return (torch.randn(700, 40, generator=generator) @ mixing).relu()


def summed(features: Tensor, sizes: list[int] | int, order: list[int] | None = None) -> FeatureSums:
    parts = [FeatureSums.of(part) for part in torch.split(features, sizes)]
    chosen = parts if order is None else [parts[i] for i in order]
    total = chosen[0]
    for part in chosen[1:]:
        total = total.merged(part)
    return total


def same_bits(first: GaussianStatistics, second: GaussianStatistics) -> bool:
    return (
        first.count == second.count
        and torch.equal(first.mean, second.mean)
        and torch.equal(first.scatter, second.scatter)
    )


@pytest.mark.parametrize("sizes", [1, 7, 64, [650, 50]])
def test_no_grouping_changes_a_bit(features: Tensor, sizes: list[int] | int) -> None:
    assert same_bits(summed(features, sizes).statistics(), FeatureSums.of(features).statistics())


def test_no_order_changes_a_bit(features: Tensor) -> None:
    shuffled = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(1))]
    assert same_bits(FeatureSums.of(shuffled).statistics(), FeatureSums.of(features).statistics())
    assert same_bits(
        summed(features, 100, order=[6, 2, 0, 5, 1, 4, 3]).statistics(), summed(features, 100).statistics()
    )


def test_plain_sums_would_not_do(features: Tensor) -> None:
    """The reason for all this: the same sums in plain fp64 depend on their order."""
    values = features.double()
    assert not torch.equal(values.T @ values, values.flip(0).T @ values.flip(0))


def test_they_are_the_statistics_of_the_features(features: Tensor) -> None:
    found, expected = FeatureSums.of(features).statistics(), GaussianStatistics.of(features)
    assert torch.allclose(found.mean, expected.mean, rtol=0, atol=2.0**-23)
    scale = expected.scatter.diagonal().max().item()
    assert torch.allclose(found.scatter, expected.scatter, rtol=0, atol=1e-6 * scale)
    assert np.linalg.eigvalsh(found.covariance.numpy()).min() > -1e-9


def test_values_on_the_grid_are_exact() -> None:
    """Integers: numpy's covariance of them is exact as well."""
    whole = torch.randint(-500, 500, (64, 5), generator=torch.Generator().manual_seed(2)).float()
    statistics = FeatureSums.of(whole).statistics()
    assert torch.equal(statistics.mean, whole.double().mean(0))
    assert np.allclose(statistics.covariance, np.cov(whole.numpy(), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 512.0])
def test_features_that_are_none_are_refused(bad: float) -> None:
    values = torch.zeros(4, 3)
    values[1, 2] = bad
    with pytest.raises(ValueError, match="NaN, Inf or values beyond ±511"):
        FeatureSums.of(values)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="width 3 and 4 do not mix"):
        FeatureSums.of(torch.zeros(2, 3)).merged(FeatureSums.of(torch.zeros(2, 4)))
    with pytest.raises(ValueError, match="expected features of shape"):
        FeatureSums.of(torch.zeros(0, 3))
    many = FeatureSums(2**22, torch.zeros(2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="sums stay exact up to 4,194,304"):
        many.merged(FeatureSums.of(torch.zeros(1, 1)))
