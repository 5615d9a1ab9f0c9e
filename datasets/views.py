"""Ways to look at a record: which window of it is shown.

A window is the record's centre or a corner of it, as it is or mirrored left to right. Corners matter where stored
images are larger than what a tokenizer is trained on: with coordinates as a condition, a prior learns whole aligned
images from windows of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from datasets.images import Window, crop_offsets
from vqgan_core.config.prior import ViewName

__all__ = ["CENTER", "VIEWS", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """Where the window is."""

    corner: tuple[int, int] | None = None
    """0 top or 1 bottom, 0 left or 1 right; None: the centre."""
    mirrored: bool = False
    """Left to right, after the cut."""

    def window(self, shape: tuple[int, ...], size: tuple[int, int]) -> Window:
        """The window of this size in an image of that height and width."""
        if self.corner is None:
            top, left = crop_offsets(shape, size)
        else:
            top, left = (
                side * (there - wanted) for side, there, wanted in zip(self.corner, shape[:2], size, strict=True)
            )
        return Window(top, left, *size, mirrored=self.mirrored)


CENTER = View()


def _view(name: str) -> View:
    place = name.removesuffix("_flip")
    corner = None if place == "center" else (int(place.startswith("bottom")), int(place.endswith("right")))
    return View(corner, mirrored=place != name)


VIEWS: Mapping[str, View] = {name: _view(name) for name in get_args(ViewName)}
"""Every view by the name that it has in token files."""
