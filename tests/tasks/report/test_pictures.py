"""Grids: the right picture in the right place, and the same bytes each time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.report import grid
from tasks.report.pictures import as_image, fitted, png_bytes


def flat(value: int, size: int = 64) -> NDArray[np.uint8]:
    return np.full((size, size), value, dtype=np.uint8)


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_pictures_lie_row_by_row() -> None:
    sheet = pixels_of(grid([flat(10), flat(20), flat(30)], columns=2))
    assert sheet.shape == (2 * 68 + 4, 2 * 68 + 4)
    assert (sheet[30, 30], sheet[30, 100], sheet[100, 30], sheet[100, 100]) == (10, 20, 30, 255)


def test_small_pictures_are_enlarged_pixel_for_pixel() -> None:
    tiny = np.arange(64, dtype=np.uint8).reshape(8, 8)
    sheet = pixels_of(grid([tiny], columns=1))
    assert np.array_equal(sheet[4:68:8, 4:68:8], tiny)
    assert set(np.unique(sheet)) == set(range(64)) | {255}


def test_labels_stand_left_of_their_rows() -> None:
    sheet = pixels_of(grid([flat(0), flat(0)], columns=1, row_labels=["zero", "<b>one</b>"]))
    bare = pixels_of(grid([flat(0), flat(0)], columns=1))
    assert sheet.shape[0] == bare.shape[0]
    margin = sheet.shape[1] - bare.shape[1]
    assert margin > 40
    upper, lower = sheet[:70, :margin], sheet[70:, :margin]
    assert upper.min() < 128
    assert lower.min() < 128
    assert (sheet[:, margin + 4 : margin + 8] == 255).sum() < sheet[:, margin : margin + 4].size  # pictures begin there


def test_bytes_are_the_same_each_time_and_hold_no_metadata() -> None:
    pictures = [np.random.default_rng(i).integers(0, 256, (32, 48, 3), dtype=np.uint8) for i in range(6)]
    first = grid(pictures, columns=3, row_labels=["a", "b"])
    assert first == grid(pictures, columns=3, row_labels=["a", "b"])
    assert Image.open(io.BytesIO(first)).info == {}


def test_mixed_sizes_and_colours_share_a_grid() -> None:
    colour = np.zeros((40, 70, 3), dtype=np.uint8)
    sheet = Image.open(io.BytesIO(grid([flat(9, 16), colour], columns=2)))
    assert sheet.mode == "RGB"
    assert sheet.size == (2 * 74 + 4, 48)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 array .* got float64 \(4, 4\)"):
        as_image(np.zeros((4, 4)))  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ValueError, match=r"\(4, 4, 7\)"):
        as_image(np.zeros((4, 4, 7), dtype=np.uint8))
    with pytest.raises(ValueError, match="a grid needs pictures"):
        grid([], columns=3)
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        grid([flat(0), flat(0)], columns=1, row_labels=["a"])


def test_transparent_and_palette_images_become_rgb() -> None:
    assert as_image(Image.new("RGBA", (4, 4))).mode == "RGB"
    assert as_image(Image.new("P", (4, 4))).mode == "RGB"
    assert as_image(np.zeros((4, 4, 1), dtype=np.uint8)).mode == "L"


def test_only_large_pictures_are_shrunk() -> None:
    assert fitted(flat(0, 64), 64).size == (64, 64)
    assert fitted(np.zeros((10, 1000), dtype=np.uint8), 100).size == (100, 1)
    assert pixels_of(png_bytes(flat(7))).max() == 7
