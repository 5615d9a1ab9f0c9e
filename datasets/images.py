"""From a record's bytes to the numbers of a batch: decode, crop, mirror, scale to [-1, 1].

Axes: B batch, C channels, H×W pixels. Images are uint8 `H W C` until a batch is stacked. Records were made by our own
ingest and are verified by hash before they come here, so Pillow decodes them in this process.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from torch import Tensor

from datasets.errors import CorpusError
from datasets.pair_config import StoredContent

__all__ = ["DecodedCache", "Levels", "Window", "crop_offsets", "decode", "decode_levels", "to_batch"]

Levels = UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."]
"""`H W C` pixels or values, or `H W` labels."""


def decode(data: bytes, channels: int) -> UInt8[np.ndarray, "H W C"]:
    """The pixels of a stored image.

    Raises:
        CorpusError: it is not an image of that many channels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            image.load()
            # WebP has no grey mode: its grey images come back as RGB with three equal channels.
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except OSError as error:
        raise CorpusError(f"a record of {len(data)} bytes is no image: {error}") from None
    return pixels.reshape(*pixels.shape[:2], channels)


def decode_levels(data: bytes, content: StoredContent) -> Levels:
    """The numbers of a stored plane: `H W` labels in uint8, or `H W C` values in uint8 or uint16.

    Raises:
        CorpusError: it is not a plane of that content.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            levels = np.asarray(image)
    except OSError as error:
        raise CorpusError(f"a plane of {len(data)} bytes is no PNG: {error}") from None
    if content.kind == "labels":
        if levels.ndim != 2 or levels.max(initial=0) >= content.num_classes:
            raise CorpusError(f"a stored label map has labels outside the {content.num_classes} classes")
        return levels.astype(np.uint8, copy=False)
    deep = levels.reshape(*levels.shape[:2], -1)
    if deep.shape[2] != content.channels or deep.dtype.itemsize * 8 != content.bits:
        raise CorpusError(
            f"a stored plane has {deep.shape[2]} channels of {deep.dtype.itemsize * 8} bits, expected "
            f"{content.channels} of {content.bits}"
        )
    return deep


def crop_offsets(
    shape: tuple[int, ...], size: tuple[int, int], words: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Top and left of a crop of an image of `shape`: at the centre, or where two random words say."""
    room = (shape[0] - size[0], shape[1] - size[1])
    if words is None:
        return room[0] // 2, room[1] // 2
    return words[0] % (room[0] + 1), words[1] % (room[1] + 1)


@dataclass(frozen=True, slots=True)
class Window:
    """The rectangle of a record that a batch shows: the same for all its planes."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False
    """Left to right, after the cut."""
    resized: tuple[int, int] | None = None
    """Height and width to which it is resized after the cut; None: it is not."""

    def row(self) -> tuple[int, int, int, int, int]:
        """Top, left, height, width, and whether it is mirrored, as a token file has it."""
        return self.top, self.left, self.height, self.width, int(self.mirrored)

    def cut(self, levels: Levels) -> Levels:
        """The window of an image or plane."""
        part = levels[self.top : self.top + self.height, self.left : self.left + self.width]
        if self.resized is not None and self.resized != part.shape[:2]:
            part = _resized(part, self.resized)
        return part[:, ::-1] if self.mirrored else part


def _resized(levels: Levels, size: tuple[int, int]) -> Levels:
    """Another height and width: labels by nearest neighbour, all else bicubic and antialiased, channel by channel."""
    if levels.ndim == 2:
        nearest = Image.fromarray(levels).resize(size[::-1], Image.Resampling.NEAREST)
        return np.asarray(nearest)
    return np.stack([_resized_channel(levels[..., channel], size) for channel in range(levels.shape[2])], axis=-1)


def _resized_channel(levels: Levels, size: tuple[int, int]) -> Levels:
    if levels.dtype == np.uint8:
        return np.asarray(Image.fromarray(levels).resize(size[::-1], Image.Resampling.BICUBIC))
    # fp32 holds 16-bit levels exactly, and has all of Pillow's filters.
    deep = np.asarray(Image.fromarray(levels.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC))
    return deep if levels.dtype.kind == "f" else np.clip(np.rint(deep), 0, 0xFFFF).astype(np.uint16)


def to_batch(levels: Sequence[UInt8[np.ndarray, "H W C"] | UInt16[np.ndarray, "H W C"]]) -> Float[Tensor, "B C H W"]:
    """Stack images or values and map their full scale (0…255, 0…65535) to [-1, 1]."""
    stacked = rearrange(np.stack(levels), "b h w c -> b c h w")
    half = np.iinfo(stacked.dtype).max / 2
    return torch.from_numpy(stacked.astype(np.float32, order="C")).div_(half).sub_(1.0)


class DecodedCache:
    """Decoded images and planes by name, up to a number of bytes; safe in threads.

    What came first stays: an epoch reads every record once, so throwing out the oldest would throw out exactly what
    the next epoch needs first.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Start empty; 0 keeps nothing."""
        self._limit = limit_bytes
        self._used = 0
        self._kept: dict[Hashable, Levels] = {}
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of what is kept."""
        return self._used

    def get(self, name: Hashable, make: Callable[[], Levels]) -> Levels:
        """What has that name, made if it is not kept."""
        found = self._kept.get(name)
        if found is not None:
            return found
        made = make()
        with self._lock:
            if name not in self._kept and self._used + made.nbytes <= self._limit:
                self._kept[name] = made
                self._used += made.nbytes
        return made
