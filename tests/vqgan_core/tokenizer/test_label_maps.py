"""Label maps: any integers, any number of classes, and a clear line for labels that are none of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.tokenizer import check_labels, one_hot


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
@pytest.mark.parametrize("num_classes", [2, 183, 256])
def test_one_channel_a_class(dtype: torch.dtype, num_classes: int) -> None:
    labels = torch.arange(24).view(2, 3, 4) * 7 % num_classes
    check_labels(labels.to(dtype), num_classes)
    maps = one_hot(labels.to(dtype), num_classes)
    assert maps.shape == (2, num_classes, 3, 4)
    assert maps.dtype == torch.float32
    assert torch.equal(maps, torch.nn.functional.one_hot(labels, num_classes).permute(0, 3, 1, 2).float())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([[[0, 9]]], dtype=torch.uint8), "label 9 is outside the 9 classes: allowed are 0 to 8"),
        (torch.tensor([[[0, -1]]]), "label -1 is outside"),
        (torch.zeros(1, 2, 2), "torch.float32: expected integers"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), r"shape \(1, 1, 2, 2\)"),
    ],
)
def test_what_is_no_label_map_is_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 9)
