"""The interval of a mean is that of theory where theory has one."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.evaluation import mean_interval


def test_of_many_normal_values_it_is_the_normal_one() -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)).double() * 3 + 10
    error = 3 / 4000**0.5
    low, high = mean_interval(values)
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.25 * error)
    assert mean_interval(values) == (low, high), "seeded"


def test_equal_values_have_no_width() -> None:
    assert mean_interval(torch.full((5,), 2.0)) == (2.0, 2.0)
    with pytest.raises(ValueError, match="one value an image"):
        mean_interval(torch.zeros(0))
