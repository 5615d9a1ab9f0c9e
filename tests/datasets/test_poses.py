"""Contract of poses: every annotated limb and joint is in the map of its image, with a class of its own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.errors import SourceError
from datasets.poses import read_poses

CATEGORIES = [
    {"id": 7, "name": "person", "keypoints": ["head", "hip", "foot"], "skeleton": [[1, 2], [2, 3]]},
    {"id": 9, "name": "dog", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]},
]
JOINT = 4


def written(folder: Path, annotations: list[dict[str, Any]], **fields: Any) -> str:
    images = [{"id": 1, "file_name": "day/a.jpg", "width": 60, "height": 40}]
    about = {"images": images, "categories": CATEGORIES, "annotations": annotations, **fields}
    (folder / "keypoints.json").write_text(json.dumps(about))
    return str(folder / "keypoints.json")


def body(*keypoints: float, category: int = 7) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "keypoints": list(keypoints)}


def drawn(folder: Path, *bodies: dict[str, Any], width: float = 0.02) -> np.ndarray:
    ((path, png),) = read_poses(written(folder, list(bodies))).maps(width)
    assert path == "day/a"
    with Image.open(io.BytesIO(png)) as image:
        assert (image.mode, image.size) == ("L", (60, 40))
        return np.asarray(image)


def test_limbs_and_joints_are_where_they_were_annotated(tmp_path: Path) -> None:
    levels = drawn(tmp_path, body(10, 5, 2, 10, 20, 1, 40, 20, 2), body(50, 5, 2, 50, 35, 2, category=9))
    assert levels[12, 10] == 1  # head to hip
    assert levels[20, 25] == 2  # hip to foot
    assert levels[20, 50] == 3  # nose to tail
    for x, y in ((10, 5), (10, 20), (40, 20), (50, 5), (50, 35)):
        assert levels[y, x] == JOINT
    assert 0.8 < (levels == 0).mean() < 0.98


def test_points_that_were_not_annotated_are_left_out(tmp_path: Path) -> None:
    levels = drawn(tmp_path, body(10, 5, 2, 0, 0, 0, 40, 20, 2))
    assert set(np.unique(levels)) == {0, JOINT}
    assert levels[0, 0] == 0


def test_small_bodies_are_over_large_ones(tmp_path: Path) -> None:
    small, large = body(25, 20, 2, 35, 20, 2, category=9), body(5, 19, 2, 30, 20, 2, 55, 21, 2)
    assert drawn(tmp_path, small, large)[20, 28] == drawn(tmp_path, large, small)[20, 28] == 3


def test_width_is_a_share_of_the_longer_side(tmp_path: Path) -> None:
    thin, wide = (drawn(tmp_path, body(10, 20, 2, 50, 20, 2, category=9), width=w)[:, 30] for w in (0.02, 0.1))
    assert ((thin == 3).sum(), (wide == 3).sum()) == (1, pytest.approx(6, abs=1))


@pytest.mark.parametrize(
    ("annotations", "fields", "message"),
    [
        ([body(1, 2)], {}, "2 numbers for 3 keypoints"),
        ([body(1, 2, 2, 1, 2, 2, category=8)], {}, "category 8, and lists no such"),
        ([], {"categories": [{"id": 1, "name": "cat"}]}, "no category has keypoints"),
        ([], {"categories": [{**CATEGORIES[1], "skeleton": [[0, 1]]}]}, "joins the points 0 and 1, and it has 2"),
        ([], {"images": [{"id": 1, "file_name": "../a.jpg", "width": 4, "height": 4}]}, "a path inside the folder"),
        ([], {"images": [{"id": 1, "file_name": "a.jpg", "width": 0, "height": 4}]}, "images.0.width"),
        ([body(1e300, 0, 2, 1, 2, 2, category=9)], {}, "annotations.0.keypoints.0"),
    ],
)
def test_files_that_make_no_sense_are_refused(
    tmp_path: Path, annotations: list[dict[str, Any]], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read_poses(written(tmp_path, annotations, **fields))


def test_what_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"keypoints\.json") as caught:
        read_poses(str(tmp_path / "keypoints.json"))
    assert "\n" not in str(caught.value)
