"""Pictures for people: uint8 images as PNG bytes, as data URIs, and laid out in a grid.

Axes: `H×W pixels`; pictures are Pillow images, or uint8 arrays `H W`, `H W 1` or `H W 3`.

Bytes are the same for the same pixels: grids are part of artifacts.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Picture", "as_image", "data_uri", "fitted", "grid", "png_bytes"]

Picture: TypeAlias = Image.Image | NDArray[np.uint8]

_LEGIBLE_PX = 64  # smaller pictures are enlarged by whole numbers, pixel for pixel
_GAP_PX = 4
_FONT_PX = 14
_PAPER = (255, 255, 255)
_INK = (60, 60, 67)


def as_image(picture: Picture) -> Image.Image:
    """The picture as a Pillow image in mode L or RGB.

    Raises:
        ValueError: it is no uint8 array of one or three channels.
    """
    if isinstance(picture, Image.Image):
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    pixels = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)):
        raise ValueError(
            f"a picture is a uint8 array of shape H W, H W 1 or H W 3, got {picture.dtype} {picture.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def fitted(picture: Picture, largest_px: int) -> Image.Image:
    """The picture, shrunk if its longer side is above the limit."""
    image = as_image(picture)
    scale = largest_px / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def png_bytes(picture: Picture) -> bytes:
    """PNG without times or other metadata."""
    buffer = io.BytesIO()
    as_image(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(picture: Picture) -> str:
    """The picture inside a URI, so that a page needs no second file."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode("ascii")


def grid(pictures: Sequence[Picture], *, columns: int, row_labels: Sequence[str] | None = None) -> bytes:
    """Lay pictures out row by row on white, as PNG bytes.

    Args:
        pictures: of any sizes; each is centred in a cell of the largest. Small ones are enlarged pixel for pixel.
        columns: pictures in a row; the last row may be shorter.
        row_labels: what to write at the left of each row.

    Raises:
        ValueError: there is no picture, or not one label a row.
    """
    if not pictures or columns < 1:
        raise ValueError(f"a grid needs pictures and columns, got {len(pictures)} and {columns}")
    images = _legible([as_image(picture) for picture in pictures])
    rows = math.ceil(len(images) / columns)
    if row_labels is not None and len(row_labels) != rows:
        raise ValueError(f"{len(row_labels)} labels for {rows} rows of {columns} pictures")
    cell = (max(image.width for image in images), max(image.height for image in images))
    font = ImageFont.load_default(size=_FONT_PX)
    margin = math.ceil(max(map(font.getlength, row_labels))) + 2 * _GAP_PX if row_labels else 0
    mode = "RGB" if row_labels or any(image.mode == "RGB" for image in images) else "L"
    size = (margin + columns * (cell[0] + _GAP_PX) + _GAP_PX, rows * (cell[1] + _GAP_PX) + _GAP_PX)
    sheet = Image.new(mode, size, _PAPER if mode == "RGB" else _PAPER[0])
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left = margin + _GAP_PX + column * (cell[0] + _GAP_PX) + (cell[0] - image.width) // 2
        top = _GAP_PX + row * (cell[1] + _GAP_PX) + (cell[1] - image.height) // 2
        sheet.paste(image, (left, top))
    for row, label in enumerate(row_labels or ()):
        middle = _GAP_PX + row * (cell[1] + _GAP_PX) + cell[1] // 2
        ImageDraw.Draw(sheet).text((margin, middle), label, fill=_INK, font=font, anchor="rm")
    return png_bytes(sheet)


def _legible(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Enlarge all by one whole number if even the largest is small."""
    scale = math.ceil(_LEGIBLE_PX / max(max(image.size) for image in images))
    if scale <= 1:
        return list(images)
    return [image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST) for image in images]
