"""Codebook usage over a set of images."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.quantizers import CodeUsage, code_histogram


def test_histograms_of_batches_add_up() -> None:
    indices = torch.randint(0, 9, (8, 3, 5))
    total = code_histogram(indices[:3], 12) + code_histogram(indices[3:], 12)
    assert torch.equal(total, code_histogram(indices, 12))
    assert total.shape == (12,)
    assert int(total.sum()) == indices.numel()


@pytest.mark.parametrize(
    ("counts", "usage", "perplexity", "num_dead"),
    [
        ([5, 5, 5, 5], 1.0, 4.0, 0),
        ([9, 0, 0, 0], 0.25, 1.0, 3),
        ([3, 0, 3, 0], 0.5, 2.0, 2),
        ([1, 0, 1, 0], 0.5, 2.0, 2),
        ([0, 0], 0.0, 0.0, 2),
    ],
)
def test_figures(counts: list[int], usage: float, perplexity: float, num_dead: int) -> None:
    figures = CodeUsage(torch.tensor(counts))
    assert figures.usage == usage
    assert figures.perplexity == pytest.approx(perplexity, rel=1e-12)
    assert figures.num_dead == num_dead
