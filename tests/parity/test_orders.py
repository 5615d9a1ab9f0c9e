"""Token orders equal the original's permuters, forwards and back."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from vqgan_core.config import OrderName
from vqgan_core.prior.orders import inverse, name_of, token_order

NAMES: dict[str, OrderName] = {
    "Identity": "row",
    "SpiralIn": "spiral_in",
    "SpiralOut": "spiral_out",
    "ZCurve": "z_curve",
    "Subsample": "subsample",
    "AlternateParsing": "alternate",
    "Random": "random",
}


def test_every_permuter_forwards_and_back(parity_dir: Path) -> None:
    case = json.loads((parity_dir / "manifest.json").read_text())["cases"]["h_permuters"]
    tensors = load_file(parity_dir / case["file"])
    assert tensors
    for key, expected in tensors.items():
        original, side, direction = key.split(".")
        height, _, width = side.partition("x")
        grid = int(height), int(width or height)
        order = token_order(NAMES[original], *grid)
        assert torch.equal(order if direction == "forward" else inverse(order), expected), key
        if direction == "forward":
            assert name_of(expected, *grid) == NAMES[original], key
