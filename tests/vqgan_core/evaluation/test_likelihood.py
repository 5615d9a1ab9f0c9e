"""The unigram baseline against counting by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vqgan_core.evaluation import bits_per_dimension, unigram_nll


def test_known_frequencies_give_their_entropy() -> None:
    """With many records smoothing vanishes: the NLL of the training tokens is their entropy at each position."""
    tokens = torch.tensor([[0, 5], [0, 5], [1, 5], [2, 5]]).repeat(5000, 1)
    entropy = (0.5 * math.log(2) + 0.5 * math.log(4)) / 2  # ½ ¼ ¼ at the first position, certain at the second
    assert unigram_nll(tokens, tokens, codebook_size=8) == pytest.approx(entropy, abs=1e-4)


def test_smoothing_is_the_baselines_best() -> None:
    train, validation = torch.tensor([[0], [0], [0], [1]]), torch.tensor([[0], [2]])

    def nll(alpha: float) -> float:
        return -sum(math.log((count + alpha) / (4 + 4 * alpha)) for count in (3, 0)) / 2

    best = min(nll(alpha) for alpha in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0))
    assert unigram_nll(train, validation, codebook_size=4) == pytest.approx(best)
    assert best < nll(0.1)


def test_positions_are_told_apart() -> None:
    train = torch.tensor([[0, 1]] * 100)
    assert unigram_nll(train, train, 2) < unigram_nll(train, train.flip(1), 2)


def test_tokens_that_do_not_fit_are_refused() -> None:
    good = torch.zeros(3, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"validation tokens of shape \(records, 4\), got \(3, 5\)"):
        unigram_nll(good, torch.zeros(3, 5, dtype=torch.int64), 8)
    with pytest.raises(ValueError, match="training tokens of shape"):
        unigram_nll(good[:0], good, 8)
    with pytest.raises(ValueError, match="outside of 0 … 7"):
        unigram_nll(good, good + 8, 8)


def test_bits_per_dimension() -> None:
    one_bit = torch.full((3,), math.log(2), dtype=torch.float64)
    assert bits_per_dimension(one_bit, num_tokens=64, num_values=32 * 32).tolist() == pytest.approx([64 / 1024] * 3)
