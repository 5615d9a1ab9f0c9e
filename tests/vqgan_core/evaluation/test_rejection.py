"""The best fraction of each class is kept, and no less."""

from __future__ import annotations

import pytest
import torch

from vqgan_core.evaluation import keep_best


def test_the_best_of_each_class_stay_in_the_order_of_drawing() -> None:
    scores = torch.tensor([0.1, 0.9, 0.8, 0.7, 0.2, 0.3])
    assert keep_best(scores, 0.5).tolist() == [1, 2, 3]
    assert keep_best(scores, 0.5, torch.tensor([0, 1, 1, 1, 0, 0])).tolist() == [1, 2, 4, 5]
    assert keep_best(scores, 1.0, torch.tensor([0, 1, 1, 1, 0, 0])).tolist() == list(range(6))
    assert keep_best(scores, 0.01, torch.tensor([2, 1, 1, 1, 2, 0])).tolist() == [1, 4, 5]


def test_of_equal_scores_the_earlier_is_kept() -> None:
    assert keep_best(torch.ones(7), 0.3).tolist() == [0, 1, 2]
    assert keep_best(torch.empty(0), 0.5).tolist() == []


@pytest.mark.parametrize(
    ("fraction", "count", "kept"), [(0.1, 30, 3), (0.1, 31, 4), (1 / 3, 9, 3), (0.7, 10, 7), (0.5, 1, 1)]
)
def test_the_fraction_is_rounded_up(fraction: float, count: int, kept: int) -> None:
    assert len(keep_best(torch.arange(count).float(), fraction)) == kept


def test_what_a_caller_can_do_wrong() -> None:
    for fraction in (0.0, 1.1, -0.5):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            keep_best(torch.ones(3), fraction)
    with pytest.raises(ValueError, match="2 labels for 3 scores"):
        keep_best(torch.ones(3), 0.5, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="1 of 2 scores are no numbers"):
        keep_best(torch.tensor([1.0, torch.nan]), 0.5)
