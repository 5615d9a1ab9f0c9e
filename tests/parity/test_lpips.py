"""LPIPS with the vgg layout computes what the original's computes, from formula weights; and never drops out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.parity.tokenizer_cases import read_case, read_tensors
from vqgan_core.config import LpipsConfig
from vqgan_core.losses import Lpips


def _formula_weights(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The manifest's weight_formula: each parameter has a seed of its own, by its place in the sorted names."""
    state = {}
    for index, name in enumerate(sorted(case["parameter_names"])):
        shape = case["parameter_shapes"][name]
        values = np.random.RandomState(1000 + index).standard_normal(shape).astype(np.float32)
        if name.startswith("lin"):
            values = np.abs(values) * np.float32(0.1)
        elif len(shape) == 1:
            values = values * np.float32(0.05)
        else:
            values = values * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def test_distances(parity_dir: Path, tmp_path: Path) -> None:
    case = read_case(parity_dir, "k_lpips")
    golden = read_tensors(parity_dir, case)
    path = tmp_path / "lpips_vgg.pth"
    torch.save(_formula_weights(case), path)
    distance = Lpips(LpipsConfig(net="vgg", weights=str(path)))
    x, y = golden["x"], golden["y"]
    for training in (False, True):  # the original's dropout comes alive in training: ours has none
        distance.train(training)
        torch.testing.assert_close(distance(x, y), golden["eval_xy"].flatten(), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(distance(x, x), golden["eval_xx"].flatten(), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(distance(x, 0.9 * x), golden["eval_x_0.9x"].flatten(), atol=1e-6, rtol=1e-4)
