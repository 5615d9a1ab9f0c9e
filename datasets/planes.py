"""The planes of a batch: what is read of each record, all under one window.

Axes: B batch, C channels, H×W pixels of the window.

Every plane of a record sees the same rectangle and the same mirroring. What is computed from the image (edges, low
resolution) is computed from its window, so that it does not depend on what lies outside. Label maps stay uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from einops import reduce
from jaxtyping import Float, UInt8
from torch import Tensor

from datasets.corpus_split import CorpusSplit
from datasets.errors import CorpusError
from datasets.images import DecodedCache, Levels, Window, to_batch
from vqgan_core.config import EdgesPlane, ImagePlane, LowResolutionPlane, PlaneConfig, StoredPlane

__all__ = ["IMAGES", "Planes", "edges", "low_resolution"]

IMAGES: Mapping[str, PlaneConfig] = {"images": ImagePlane()}
"""What is read if nothing else is asked for."""
_RESERVED = ("labels",)


class Planes:
    """Reads the planes of the records of a split."""

    def __init__(
        self, split: CorpusSplit, planes: Mapping[str, PlaneConfig], size: tuple[int, int], cache_bytes: int = 0
    ) -> None:
        """Check that the corpus can give what is asked for; nothing is read yet.

        Args:
            split: whose records.
            planes: what to read, by its name in a batch.
            size: height and width of the windows.
            cache_bytes: decoded images and planes kept between epochs.

        Raises:
            CorpusError: the corpus does not keep a plane, or a name or a factor does not fit.
        """
        for name, plane in planes.items():
            if name in _RESERVED:
                raise CorpusError(f"a batch has {name} of its own: call the plane {plane.kind} something else")
            if isinstance(plane, StoredPlane):
                split.require_plane(plane.name)
            if isinstance(plane, LowResolutionPlane) and (size[0] % plane.factor or size[1] % plane.factor):
                raise CorpusError(
                    f"low_resolution by factor {plane.factor} of images of {size[0]}×{size[1]}: height and width must "
                    "be multiples of it"
                )
        self.split, self.size = split, size
        self._planes = planes
        self._cache = DecodedCache(cache_bytes)

    def batch(self, numbers: Sequence[int], windows: Sequence[Window]) -> dict[str, Tensor]:
        """What is read of the records, each in its window."""
        read = {_read_from(plane) for plane in self._planes.values()}
        cut = {name: self._cut(name, numbers, windows) for name in read}
        return {name: _batched(plane, cut[_read_from(plane)]) for name, plane in self._planes.items()}

    def _cut(self, stored: str | None, numbers: Sequence[int], windows: Sequence[Window]) -> list[Levels]:
        """The windows of the images, or of a stored plane."""
        whole = [self._cache.get((stored, number), partial(self._read, stored, number)) for number in numbers]
        return [window.cut(levels) for window, levels in zip(windows, whole, strict=True)]

    def _read(self, stored: str | None, number: int) -> Levels:
        return self.split.image(number) if stored is None else self.split.plane(number, stored)


def _read_from(plane: PlaneConfig) -> str | None:
    """Which stored plane it is made from; None: the image."""
    return plane.name if isinstance(plane, StoredPlane) else None


def _batched(plane: PlaneConfig, levels: list[Levels]) -> Tensor:
    if isinstance(plane, EdgesPlane):
        return to_batch([edges(image, plane) for image in levels])
    if isinstance(plane, LowResolutionPlane):
        return torch.stack([low_resolution(image, plane.factor) for image in levels])
    return torch.from_numpy(np.stack(levels)) if levels[0].ndim == 2 else to_batch(levels)


def edges(image: UInt8[np.ndarray, "H W C"], plane: EdgesPlane) -> UInt8[np.ndarray, "H W 1"]:
    """Canny's edges of an image: 255 on an edge, 0 elsewhere. Whole numbers throughout: the same on every machine."""
    pixels = np.ascontiguousarray(image)
    if plane.sigma_px:
        pixels = cv2.GaussianBlur(pixels, (0, 0), plane.sigma_px)
    return np.asarray(cv2.Canny(pixels, plane.low_threshold, plane.high_threshold), np.uint8)[..., None]


def low_resolution(image: UInt8[np.ndarray, "H W C"], factor: int) -> Float[Tensor, "C h w"]:
    """The mean of each square of factor × factor pixels, in [-1, 1]; not rounded."""
    sums = reduce(image.astype(np.int32), "(h f) (w g) c -> c h w", "sum", f=factor, g=factor)
    return torch.from_numpy(sums.astype(np.float32)).div_(127.5 * factor**2).sub_(1.0)
