"""Contract: accuracy and IoU of label maps are counted over the pixels of the whole set, however it is cut."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import jaccard_score

from vqgan_core.evaluation import label_map_metrics, mean_iou
from vqgan_core.evaluation.label_maps import confusion

NUM_CLASSES = 6


def test_against_scikit_learn_and_for_any_cut() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(
        NUM_CLASSES - 2, (7, 8, 9), generator=generator, dtype=torch.uint8
    )  # two classes never occur
    logits = torch.randn(7, NUM_CLASSES, 8, 9, generator=generator)
    logits[:, 5] -= 100  # and one of them is never found
    whole = label_map_metrics([(labels, logits)], NUM_CLASSES, reference="r")
    parts = label_map_metrics(zip(labels.split(3), logits.split(3), strict=True), NUM_CLASSES, reference="r")
    values = {metric.name: metric.value for metric in whole}
    assert {metric.name: metric.value for metric in parts} == pytest.approx(values, rel=1e-6)
    found, expected = logits.argmax(1).flatten().numpy(), labels.flatten().numpy()
    assert values["pixel accuracy"] == pytest.approx((found == expected).mean())
    assert values["mean IoU"] == pytest.approx(jaccard_score(expected, found, average="macro", labels=range(5)))
    assert values["cross-entropy"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels.long()).item())
    assert {metric.n for metric in whole} == {7}


def test_a_perfect_reconstruction_and_none() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    assert mean_iou(confusion(labels, labels, 5)) == 1.0
    with pytest.raises(ValueError, match="the reference set is empty"):
        label_map_metrics([], 3, reference="r")
