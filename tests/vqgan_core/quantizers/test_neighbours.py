"""Indices replaced by nearby ones: which, how many, and by what draws."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.config import LfqQuantizerConfig, VectorQuantizerConfig
from vqgan_core.quantizers import LfqQuantizer, VectorQuantizer, replace_by_neighbours, vector
from vqgan_core.quantizers.neighbours import nearest_others

NUM_ENTRIES, WIDTH = 30, 4


def quantizer() -> VectorQuantizer:
    torch.manual_seed(0)
    made = VectorQuantizer(NUM_ENTRIES, WIDTH, VectorQuantizerConfig())
    torch.nn.init.normal_(made.codebook)
    return made


def test_nearest_others_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = quantizer().codebook.detach()
    indices = torch.tensor([3, 0, 29, 3])
    distances = torch.cdist(entries.double(), entries.double()).fill_diagonal_(torch.inf)
    expected = distances.argsort(dim=1)[indices, :5]
    assert torch.equal(nearest_others(indices, entries, 5), expected)
    monkeypatch.setattr(vector, "MAX_DISTANCES", 1)
    assert torch.equal(nearest_others(indices, entries, 5), expected)


def replaced(probability: float, num_neighbours: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    made = quantizer()
    indices = torch.randint(NUM_ENTRIES, (4, 20, 30), generator=torch.Generator().manual_seed(1))
    after = replace_by_neighbours(
        made,
        indices,
        probability=probability,
        num_neighbours=num_neighbours,
        generator=torch.Generator().manual_seed(seed),
    )
    return indices, after


def test_so_many_are_replaced_by_one_of_so_many() -> None:
    indices, after = replaced(0.3)
    share = (indices != after).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.03)
    entries = quantizer().codebook.detach()
    allowed = nearest_others(indices.flatten(), entries, 5)
    changed = (indices != after).flatten()
    ranks = (allowed == after.flatten()[:, None]).int().argmax(1)[changed]
    assert (allowed == after.flatten()[:, None])[changed].any(1).all()
    assert torch.bincount(ranks, minlength=5).float().div(len(ranks)).tolist() == pytest.approx([0.2] * 5, abs=0.05)


def test_none_all_and_more_than_there_are() -> None:
    indices, after = replaced(0.0)
    assert torch.equal(indices, after)
    indices, after = replaced(1.0, num_neighbours=1000)
    assert not (indices == after).any()
    assert len(after[indices == 3].unique()) > 20


def test_the_generator_decides() -> None:
    assert torch.equal(replaced(0.5)[1], replaced(0.5)[1])
    assert not torch.equal(replaced(0.5)[1], replaced(0.5, seed=1)[1])


def test_quantizers_without_a_table_have_neighbours_too() -> None:
    """Of a corner, those that differ in one bit."""
    made = LfqQuantizer(16, 4, LfqQuantizerConfig())
    indices = torch.arange(16).view(1, 4, 4)
    after = replace_by_neighbours(made, indices, probability=1.0, num_neighbours=4, generator=torch.Generator())
    assert set((indices ^ after).flatten().tolist()) <= {1, 2, 4, 8}
