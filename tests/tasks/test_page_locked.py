"""On a GPU, batches come in page-locked memory, the same ones; skipped by name where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import pytest
import torch

from tasks.training import page_locked

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_page_locked_batches_are_the_same() -> None:
    def batches(start: int) -> Iterator[dict[str, torch.Tensor]]:
        return ({"tokens": torch.full((2, 3), step), "labels": torch.tensor([step])} for step in count(start))

    for step, batch in enumerate(islice(page_locked(batches)(5), 20), start=5):
        assert all(values.is_pinned() for values in batch.values())
        assert batch["tokens"].tolist() == [[step] * 3] * 2
        assert batch["labels"].tolist() == [step]
