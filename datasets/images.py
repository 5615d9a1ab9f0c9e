"""From a record's bytes to the pixels of a batch: decode, crop, mirror, scale to [-1, 1].

Axes: B batch, C channels, H×W pixels. Images are uint8 `H W C` until a batch is stacked. Records were made by our own
ingest and are verified by hash before they come here, so Pillow decodes them in this process.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from datasets.errors import CorpusError

__all__ = ["DecodedCache", "crop", "crop_offsets", "decode", "to_batch"]


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


def crop_offsets(
    shape: tuple[int, ...], size: tuple[int, int], words: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Top and left of a crop of an image of `shape`: at the centre, or where two random words say."""
    room = (shape[0] - size[0], shape[1] - size[1])
    if words is None:
        return room[0] // 2, room[1] // 2
    return words[0] % (room[0] + 1), words[1] % (room[1] + 1)


def crop(
    image: UInt8[np.ndarray, "H W C"], top_left: tuple[int, int], size: tuple[int, int], *, mirrored: bool
) -> UInt8[np.ndarray, "h w C"]:
    """Cut out a rectangle and, if told, mirror it left to right."""
    (top, left), (height, width) = top_left, size
    cut = image[top : top + height, left : left + width]
    return cut[:, ::-1] if mirrored else cut


def to_batch(images: list[UInt8[np.ndarray, "H W C"]]) -> Float[Tensor, "B C H W"]:
    """Stack images and map 0…255 to [-1, 1]."""
    stacked = torch.from_numpy(rearrange(np.stack(images), "b h w c -> b c h w").copy())
    return stacked.to(torch.float32).div_(127.5).sub_(1.0)


class DecodedCache:
    """Decoded images by number, up to a number of bytes; safe in threads.

    What came first stays: an epoch reads every record once, so throwing out the oldest would throw out exactly what
    the next epoch needs first.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Start empty; 0 keeps nothing."""
        self._limit = limit_bytes
        self._used = 0
        self._images: dict[int, UInt8[np.ndarray, "H W C"]] = {}
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of the images that are kept."""
        return self._used

    def get(self, number: int, make: Callable[[int], UInt8[np.ndarray, "H W C"]]) -> UInt8[np.ndarray, "H W C"]:
        """The image of that number, made if it is not kept."""
        found = self._images.get(number)
        if found is not None:
            return found
        image = make(number)
        with self._lock:
            if number not in self._images and self._used + image.nbytes <= self._limit:
                self._images[number] = image
                self._used += image.nbytes
        return image
