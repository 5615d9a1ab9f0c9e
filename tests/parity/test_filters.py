"""Top-k and top-p keep what the original (with the transformers release that it pins) keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vqgan_core.prior.filters import top_k, top_p


@pytest.fixture
def cases(parity_dir: Path) -> list[tuple[dict[str, Any], Tensor, Tensor]]:
    case = json.loads((parity_dir / "manifest.json").read_text())["cases"]["g_filters"]
    tensors = load_file(parity_dir / case["file"])
    return [(item, tensors[f"{item['name']}.in"], tensors[f"{item['name']}.out"]) for item in case["cases"]]


def original(item: dict[str, Any], logits: Tensor) -> Tensor:
    """The original's composition: k 0 is off, ties with the k-th entry are kept, top-p looks at what is left."""
    if item["k"] > 0:
        logits = top_k(logits, item["k"], keep_ties=True)
    return top_p(logits, item["p"]) if "p" in item else logits


def test_the_original_filters(cases: list[tuple[dict[str, Any], Tensor, Tensor]]) -> None:
    assert cases
    for item, logits, expected in cases:
        filtered = original(item, logits)
        assert torch.equal(filtered, expected), item["name"]
        assert filtered.isfinite().sum(-1).tolist() == item["kept"], item["name"]


def test_ours_keeps_exactly_k_of_what_the_original_keeps(cases: list[tuple[dict[str, Any], Tensor, Tensor]]) -> None:
    plain = [case for case in cases if case[0]["fn"] == "top_k_logits"]
    assert plain
    for item, logits, expected in plain:
        kept = top_k(logits, item["k"]).isfinite()
        assert kept.sum(-1).tolist() == [item["k"]] * len(logits), item["name"]
        assert not (kept & expected.isinf()).any(), item["name"]
