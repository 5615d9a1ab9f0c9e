"""Layout tokens equal the original's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vqgan_core.config import LayoutConfig
from vqgan_core.prior.layouts import WHOLE, Box, LayoutObject, layout_objects, layout_tokens

CASE = "l_scene_tokens"


@pytest.fixture(scope="module")
def case(parity_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((parity_dir / f"{CASE}.json").read_text())
    return found


def objects(case: dict[str, Any], *, all_flags: bool) -> list[LayoutObject]:
    """The annotations, with the flags that a row's builder looks at."""
    bits = {"is_group_of": 1} | ({"is_occluded": 2, "is_depiction": 4, "is_inside": 8} if all_flags else {})
    return [
        LayoutObject(item["category_no"], Box(*item["bbox_xywh"]), sum(bit for name, bit in bits.items() if item[name]))
        for item in case["annotations"]
    ]


def test_tokens_are_the_originals(case: dict[str, Any]) -> None:
    params = case["params"]
    assert case["rows"]
    for row in case["rows"]:
        config = LayoutConfig(
            codebook_size=params["no_tokens"],
            max_objects=params["no_max_objects"],
            points="corners" if "BoundingBox" in row["builder"] else "center",
            tell_part=row["encode_crop"],
        )
        told = objects(case, all_flags=row["use_additional_parameters"])
        part = WHOLE if row["crop_xywh"] is None else Box(*row["crop_xywh"])
        tokens = layout_tokens(told, config, params["no_object_classes"], part=part, mirrored=row["flip"], legacy=True)
        assert tokens == row["tokens"], row
        assert len(tokens) == config.num_tokens == row["embedding_dim"]


def test_tokens_tell_the_objects_again(case: dict[str, Any]) -> None:
    config, told = LayoutConfig(), objects(case, all_flags=True)
    found = list(layout_objects(layout_tokens(told, config, 100), config, 100))
    assert [(item.category, item.flags) for item in found] == [(item.category, item.flags) for item in told]
    for item, again in zip(told, found, strict=True):
        assert again.box == pytest.approx(item.box, abs=1 / 89)
