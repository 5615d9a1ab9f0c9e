"""The canonical form of what is kept beside an image: label maps and maps of values, as lossless PNG.

Axes: C channels, H×W pixels.

A plane has exactly the image's size (after orientation) and goes through the same resize and crop. Labels are resized
by nearest neighbour; values channel by channel, since Pillow would weigh colours by a fourth channel as by opacity.
Nothing is scaled, clipped or converted on the way in: another number of channels or bits than was asked for, or a label
outside the classes, makes the record unusable.

Keep this module's imports light: decoding children load it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasets.ingest.geometry import resized
from datasets.ingest.unusable import Unusable

if TYPE_CHECKING:
    from datasets.pair_config import AlphaPair, FilesPair

__all__ = ["PlaneRecipe", "encoded_plane", "levels_of", "opacity_of"]

_CHANNELS_AND_BITS = {
    "L": (1, 8),
    "LA": (2, 8),
    "RGB": (3, 8),
    "RGBA": (4, 8),
    **dict.fromkeys(("I", "I;16", "I;16B", "I;16L"), (1, 16)),
}
_LOSSY = ("JPEG", "MPO")
_Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class PlaneRecipe:
    """What of a pair's config the decode needs, without pydantic."""

    name: str
    is_labels: bool
    num_classes: int = 0
    void_label: int | None = None
    channels: int = 1
    bits: int = 8
    resample: str = "nearest"
    alpha_threshold: int | None = None
    """None: the plane is a file of its own."""

    @classmethod
    def of(cls, name: str, pair: FilesPair | AlphaPair) -> PlaneRecipe:
        """Take the fields of the same names."""
        holds = pair.holds
        threshold = pair.threshold if pair.kind == "alpha" else None
        if holds.kind == "labels":
            return cls(name, True, holds.num_classes, holds.void_label, alpha_threshold=threshold)
        return cls(name, False, channels=holds.channels, bits=holds.bits, resample=holds.resample)


def levels_of(image: Image.Image, plane: PlaneRecipe) -> _Levels:
    """The numbers of a loaded second file, `H W` labels or `H W C` values, oriented.

    Raises:
        Unusable: it is not what the recipe asks for.
    """
    oriented = ImageOps.exif_transpose(image)
    return _labels(oriented, image.format, plane) if plane.is_labels else _values(oriented, plane)


def opacity_of(image: Image.Image, plane: PlaneRecipe) -> NDArray[np.uint8]:
    """The classes of a loaded image's own transparency, oriented: 1 where it is opaque enough, 0 elsewhere."""
    assert plane.alpha_threshold is not None
    oriented = ImageOps.exif_transpose(image)
    if not oriented.has_transparency_data:
        return np.ones((oriented.height, oriented.width), np.uint8)
    return (np.asarray(oriented.convert("RGBA").getchannel("A")) >= plane.alpha_threshold).astype(np.uint8)


def encoded_plane(levels: _Levels, plane: PlaneRecipe, size_px: int, crop: str) -> bytes:
    """Resize, crop and encode a plane as the image is."""
    channels = [levels] if levels.ndim == 2 else [levels[..., i] for i in range(levels.shape[2])]
    small = [_resized_channel(channel, plane, size_px, crop) for channel in channels]
    pixels = small[0] if len(small) == 1 else np.stack(small, axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _resized_channel(channel: _Levels, plane: PlaneRecipe, size_px: int, crop: str) -> _Levels:
    if plane.bits == 8:
        return np.asarray(resized(Image.fromarray(channel), size_px, crop, plane.resample))
    # fp32 holds 16-bit levels exactly, and has all of Pillow's filters.
    deep = np.asarray(resized(Image.fromarray(channel.astype(np.float32)), size_px, crop, plane.resample), np.float32)
    return np.clip(np.rint(deep), 0, 0xFFFF).astype(np.uint16)


def _labels(image: Image.Image, file_format: str | None, plane: PlaneRecipe) -> NDArray[np.uint8]:
    if file_format in _LOSSY:
        raise Unusable("partner_mode", f"{plane.name}: {file_format} blurs labels: give a lossless file")
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise Unusable("partner_mode", f"{plane.name}: mode {image.mode}: a label map has one channel of whole numbers")
    labels = np.asarray(image).astype(np.int64)
    last = plane.num_classes - 1
    if plane.void_label is not None:
        labels[labels == plane.void_label] = last
    worst = int(labels.min() if labels.min() < 0 else labels.max())
    if not 0 <= worst <= last:
        raise Unusable("label_outside", f"{plane.name}: label {worst} is outside the classes 0 to {last}")
    return labels.astype(np.uint8)


def _values(image: Image.Image, plane: PlaneRecipe) -> _Levels:
    channels, bits = _CHANNELS_AND_BITS.get(image.mode, (0, 0))
    if (channels, bits) != (plane.channels, plane.bits):
        given = f"{channels} channels of {bits} bits" if channels else f"mode {image.mode}"
        wanted = f"{plane.channels} of {plane.bits}"
        raise Unusable("partner_mode", f"{plane.name}: it has {given}; pairs.{plane.name}.holds asks for {wanted}")
    levels = np.asarray(image)
    if bits == 8:
        return levels
    deep = levels.astype(np.int64)
    if deep.min() < 0 or deep.max() > 0xFFFF:
        raise Unusable("partner_mode", f"{plane.name}: levels {deep.min()} to {deep.max()} do not fit into 16 bits")
    return deep.astype(np.uint16)
