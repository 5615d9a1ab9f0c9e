"""Units of the likelihood, and the unigram baseline, on numbers that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vqgan_core.prior.likelihood import PositionUnigram, bits_per_dim, unigram_nll


def test_uniform_tokens_cost_log2_k_bits_each() -> None:
    assert bits_per_dim(math.log(1024), 256, (3, 256, 256)) == pytest.approx(10 * 256 / (3 * 256 * 256))


def test_the_unigram_counts_each_position_on_its_own() -> None:
    train = torch.tensor([[0, 2], [0, 2], [1, 2]])
    baseline = PositionUnigram(num_tokens=2, codebook_size=3)
    baseline.observe(train[:1])
    baseline.observe(train[1:])
    # Counts + 1 at position 0: 3, 2, 1 of 6; at position 1: 1, 1, 4 of 6.
    expected = -torch.tensor([[3 / 6, 4 / 6], [1 / 6, 1 / 6]], dtype=torch.float64).log()
    validation = torch.tensor([[0, 2], [2, 0]])
    torch.testing.assert_close(baseline.nll(validation), expected)
    assert unigram_nll(train, validation, 3) == pytest.approx(expected.mean().item())


def test_its_probabilities_sum_to_one() -> None:
    baseline = PositionUnigram(num_tokens=4, codebook_size=7, smoothing=0.3)
    baseline.observe(torch.randint(7, (20, 4), generator=torch.Generator().manual_seed(0)))
    every = torch.arange(7)[:, None].expand(7, 4)
    torch.testing.assert_close(baseline.nll(every).neg().exp().sum(0), torch.ones(4, dtype=torch.float64))


def test_without_data_it_is_uniform() -> None:
    assert unigram_nll(torch.empty(0, 2, dtype=torch.int64), torch.tensor([[3, 4]]), 5) == pytest.approx(math.log(5))


def test_what_a_caller_can_do_wrong() -> None:
    baseline = PositionUnigram(num_tokens=2, codebook_size=3)
    with pytest.raises(ValueError, match="0 … 2"):
        baseline.observe(torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match=r"expected \(batch, 2\)"):
        baseline.nll(torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="must be positive"):
        PositionUnigram(2, 3, smoothing=0)
