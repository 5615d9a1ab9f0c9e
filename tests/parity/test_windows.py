"""Coordinates and window plans equal the original's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vqgan_core.prior.coordinates import coordinate_image, coordinate_ramp, coordinate_tokens
from vqgan_core.prior.windows import scene_windows, sliding_windows

WINDOW = (16, 16)  # what the original's scripts hard-code


@pytest.fixture
def case(parity_dir: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    case = json.loads((parity_dir / "manifest.json").read_text())["cases"]["j_coord_windows"]
    return case, load_file(parity_dir / case["file"])


def test_every_window_plan(case: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    plans = {key: plan for key, plan in case[1].items() if "window_plan" in key}
    assert plans
    for key, expected in plans.items():
        kind, _, size = key.partition(".")
        height, width = (int(side) for side in size.split("x"))
        plan = {"window_plan": sliding_windows, "scene_window_plan": scene_windows}[kind]
        assert torch.equal(plan((height, width), WINDOW), expected), key


def test_the_listed_plan(parity_dir: Path, case: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    listed = json.loads((parity_dir / case[0]["extra_file"]).read_text())
    assert listed["columns"] == ["i", "j", "win_top", "win_left", "local_i", "local_j"]
    plan = sliding_windows(tuple(listed["grid_HxW"]), (listed["window"], listed["window"]))
    for i, j, *expected in listed["rows"]:
        assert plan[i, j].tolist() == expected


def test_coordinates(case: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    """All-ones coordinates give the token n_embed in the original, which does not exist; here the last level."""
    config, tensors = case[0]["config"]["CoordStage"], case[1]
    factor, num_levels = config["down_factor"], config["n_embed"]
    expected = tensors["coord.indices"][:, 0].clamp(max=num_levels - 1)
    tokens = coordinate_tokens(tensors["coord.in"], factor, num_levels)
    assert torch.equal(tokens, expected)
    assert tokens.max() < num_levels
    exists = (tensors["coord.indices"] < num_levels).all(-1).all(-1).all(-1)
    torch.testing.assert_close(coordinate_image(tokens, factor, num_levels)[exists], tensors["coord.decoded"][exists])


def test_the_coordinates_of_a_whole_image(case: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    (key,) = (key for key in case[1] if key.startswith("coord.faceshq_"))
    side = int(re.findall(r"\d+", key)[0])
    factor = side // case[1][key].shape[-1]
    assert torch.equal(coordinate_tokens(coordinate_ramp(side, side), factor, 1024)[0], case[1][key])
