"""Use of a codebook as metrics: what they depend on stands beside them."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.evaluation import Metric, usage_metrics
from vqgan_core.quantizers import CodeUsage


def metrics_of(counts: list[int]) -> dict[str, Metric]:
    return {metric.name: metric for metric in usage_metrics(CodeUsage(torch.tensor(counts)), n=2, reference="r")}


def test_figures() -> None:
    found = metrics_of([3, 0, 3, 0])
    values = {name: metric.value for name, metric in found.items()}
    assert values == {"codebook usage": 0.5, "codebook perplexity": pytest.approx(2), "dead codes": 2}
    assert [metric.higher_is_better for metric in found.values()] == [True, True, False]
    assert {metric.note for metric in found.values()} == {"4 entries, 6 indices"}


def test_fewer_indices_than_entries_are_told() -> None:
    assert metrics_of([1, 1, 0, 0, 0, 0, 0, 0])["codebook usage"].note == (
        "8 entries, 2 indices: too few, at most 25.0% of the entries can occur"
    )


def test_codebooks_of_other_sizes_are_not_compared() -> None:
    small, large = metrics_of([2, 2]), metrics_of([2, 2, 0, 0])
    assert all(small[name].protocol() != large[name].protocol() for name in small)
