"""Filters keep what their definitions say."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.filters import filter_logits, min_p, top_k, top_p


def kept(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def test_top_k_keeps_exactly_k_and_the_first_of_equal_entries() -> None:
    logits = torch.tensor([[1.0, 3, 3, 3, 2, 0, -1, 3], [5.0, 4, 3, 2, 1, 0, -1, -2]])
    assert kept(top_k(logits, 2)) == [[1, 2], [0, 1]]
    assert kept(top_k(logits, 5)) == [[1, 2, 3, 4, 7], [0, 1, 2, 3, 4]]
    assert kept(top_k(logits, 2, keep_ties=True)) == [[1, 2, 3, 7], [0, 1]]


@pytest.mark.parametrize("k", [1, 7, 63, 64, 1000])
def test_top_k_counts(k: int) -> None:
    logits = torch.randint(5, (20, 64), generator=torch.Generator().manual_seed(0)).float()
    filtered = top_k(logits, k)
    assert (filtered.isfinite().sum(-1) == min(k, 64)).all()
    smallest_kept = filtered.masked_fill(filtered.isinf(), torch.inf).amin(-1)
    largest_removed = logits.masked_fill(filtered.isfinite(), -torch.inf).amax(-1)
    assert (smallest_kept >= largest_removed).all()


def test_top_p_keeps_the_entry_that_crosses_p_and_at_least_one() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    assert kept(top_p(logits, 0.01)) == [[1]]
    assert kept(top_p(logits, 0.49)) == [[1]]
    assert kept(top_p(logits, 0.6)) == [[1, 3]]
    assert kept(top_p(logits, 0.8)) == [[1, 2, 3]]
    assert kept(top_p(logits, 1.0)) == [[0, 1, 2, 3]]


def test_top_p_works_without_top_k_and_after_it_looks_at_the_rest() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    assert kept(filter_logits(logits, SamplingConfig(top_p=0.6))) == [[1, 3]]
    # Of the three likeliest the first has 0.5 / 0.9 = 0.56 of the mass, the first two 0.83.
    assert kept(filter_logits(logits, SamplingConfig(top_k=3, top_p=0.55))) == [[1]]
    assert kept(filter_logits(logits, SamplingConfig(top_k=3, top_p=0.84))) == [[1, 2, 3]]


def test_temperature_comes_before_top_p() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    assert kept(filter_logits(logits, SamplingConfig(temperature=0.1, top_p=0.6))) == [[1]]
    assert kept(filter_logits(logits, SamplingConfig(temperature=10, top_p=0.6))) == [[1, 2, 3]]
    torch.testing.assert_close(filter_logits(logits, SamplingConfig(temperature=2.0)), logits / 2)


def test_entries_that_stay_are_not_changed() -> None:
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    for filtered in (top_k(logits, 9), top_p(logits, 0.7)):
        assert torch.equal(filtered[filtered.isfinite()], logits[filtered.isfinite()])


def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]]).log()
    assert kept(min_p(logits, 0.29)) == [[1, 2, 3], [0]]
    assert kept(min_p(logits, 0.19)) == [[0, 1, 2, 3], [0]]
    assert kept(min_p(logits, 1.0)) == [[1], [0]]
    assert kept(filter_logits(logits, SamplingConfig(min_p=0.29, temperature=100))) == [[0, 1, 2, 3]] * 2
    assert kept(filter_logits(logits, SamplingConfig(min_p=0.29, top_k=2))) == [[1, 3], [0]]
