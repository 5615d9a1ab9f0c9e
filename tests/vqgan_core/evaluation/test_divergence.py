"""Contract: 0 for equal frequencies, 1 for none in common, a floor that two samples of one source lie at."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from vqgan_core.evaluation.divergence import divergence_floor, jensen_shannon, per_code_divergence


def test_the_ends_of_the_scale() -> None:
    counts = torch.tensor([3, 0, 5, 1])
    assert jensen_shannon(counts, 7 * counts) == 0
    assert jensen_shannon(torch.tensor([4, 0, 2, 0]), torch.tensor([0, 9, 0, 1])) == 1


def test_it_is_that_of_scipy() -> None:
    first, second = torch.randint(0, 30, (2, 200), generator=torch.Generator().manual_seed(0))
    ours, theirs = jensen_shannon(first, second), jensenshannon(first.numpy(), second.numpy(), base=2) ** 2
    assert math.isclose(ours, theirs, rel_tol=1e-9)
    assert math.isclose(ours, jensen_shannon(second, first), rel_tol=1e-12)
    shares = per_code_divergence(first, second)
    assert (shares >= 0).all()
    assert math.isclose(float(shares.sum()), ours, rel_tol=1e-9)


def test_the_floor_tells_the_same_source_from_another() -> None:
    generator = torch.Generator().manual_seed(1)
    one, same = torch.randint(0, 32, (2, 300, 16), generator=generator)
    other = torch.randint(0, 24, (300, 16), generator=generator)

    def of(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
        counts = [torch.bincount(side.flatten(), minlength=32) for side in (a, b)]
        return jensen_shannon(*counts), divergence_floor([*a.split(100), *b.split(70)], (300, 300), 32)

    value, floor = of(one, same)
    assert 0 < value < 2 * floor
    value, floor = of(one, other)
    assert value > 10 * floor


def test_tokens_of_one_image_that_resemble_each_other_raise_the_floor() -> None:
    generator = torch.Generator().manual_seed(2)
    free = torch.randint(0, 32, (200, 16), generator=generator)
    alike = torch.randint(0, 32, (200, 1), generator=generator).expand(-1, 16)
    assert divergence_floor([alike], (100, 100), 32) > 5 * divergence_floor([free], (100, 100), 32)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="3 and of 4 codes"):
        jensen_shannon(torch.ones(3, dtype=torch.int64), torch.ones(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="empty"):
        jensen_shannon(torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64))
