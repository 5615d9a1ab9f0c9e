"""Ways to look at a record: which window of it is shown.

A window is the record's centre or a corner of it, as it is or mirrored left to right. Corners matter where stored
images are larger than what a tokenizer is trained on: with coordinates as a condition, a prior learns whole aligned
images from windows of them.

Or it is drawn (`RandomView`): of a random area and aspect ratio, resized, as `RandomResizedCrop` of torchvision does it
(Szegedy et al., *Going deeper with convolutions*, 2015). Unlike there, what is drawn is a function of (seed, view, key)
alone: the same in every run, whatever else is encoded, and when the corpus grows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np

from datasets.images import Window, crop_offsets
from datasets.order import record_words
from vqgan_core.config import EncodeConfig
from vqgan_core.config.views import RandomViewsConfig, ViewName

__all__ = ["CENTER", "VIEWS", "PlacedView", "RandomView", "View", "view_of"]

_ATTEMPTS = 10


class View(Protocol):
    """Where the window of a record is."""

    def window(self, shape: tuple[int, ...], size: tuple[int, int], key_word: int) -> Window:
        """A window that gives `size`, in an image of that height and width and of the record of that key."""


@dataclass(frozen=True, slots=True)
class PlacedView:
    """A window in a stated place; the record's key does not matter."""

    corner: tuple[int, int] | None = None
    """0 top or 1 bottom, 0 left or 1 right; None: the centre."""
    mirrored: bool = False
    """Left to right, after the cut."""

    def window(self, shape: tuple[int, ...], size: tuple[int, int], key_word: int = 0) -> Window:  # noqa: ARG002 - as every view is asked
        """The window of this size."""
        if self.corner is None:
            top, left = crop_offsets(shape, size)
        else:
            top, left = (
                side * (there - wanted) for side, there, wanted in zip(self.corner, shape[:2], size, strict=True)
            )
        return Window(top, left, *size, mirrored=self.mirrored)


@dataclass(frozen=True, slots=True)
class RandomView:
    """A window of random area, aspect ratio and place, resized."""

    config: RandomViewsConfig
    number: int

    def window(self, shape: tuple[int, ...], size: tuple[int, int], key_word: int) -> Window:
        """What is drawn for a record; where nothing of that area fits ten times, the largest window in the centre."""
        epoch, key = np.array([self.number]), np.array([key_word], np.uint64)
        words = record_words(3 + 2 * _ATTEMPTS, self.config.seed, epoch, key)[0].tolist()
        mirrored = self.config.horizontal_flip and words[2] >> 63 == 1
        for area_word, ratio_word in zip(words[3::2], words[4::2], strict=True):
            drawn = self._rectangle(shape, area_word, ratio_word)
            if drawn[0] <= shape[0] and drawn[1] <= shape[1]:
                return Window(
                    *crop_offsets(shape, drawn, (words[0], words[1])), *drawn, mirrored=mirrored, resized=size
                )
        largest = self._largest(shape)
        return Window(*crop_offsets(shape, largest), *largest, mirrored=mirrored, resized=size)

    def _rectangle(self, shape: tuple[int, ...], area_word: int, ratio_word: int) -> tuple[int, int]:
        """Height and width of a uniform share of the area, and a log-uniform ratio."""
        flattest, longest = self.config.aspect_ratio
        area = _between(*self.config.scale, area_word) * shape[0] * shape[1]
        ratio = math.exp(_between(math.log(flattest), math.log(longest), ratio_word))
        return max(1, round(math.sqrt(area / ratio))), max(1, round(math.sqrt(area * ratio)))

    def _largest(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the largest window whose ratio is allowed."""
        least, most = self.config.aspect_ratio
        height, width = shape[:2]
        if width < least * height:
            return max(1, round(width / least)), width
        return height, min(width, max(1, round(height * most)))


def _between(least: float, most: float, word: int) -> float:
    """A uniform number from the upper 53 bits of a random word."""
    return least + (most - least) * (word >> 11) / 2**53


CENTER = PlacedView()


def _placed(name: str) -> PlacedView:
    place = name.removesuffix("_flip")
    corner = None if place == "center" else (int(place.startswith("bottom")), int(place.endswith("right")))
    return PlacedView(corner, mirrored=place != name)


VIEWS: Mapping[str, PlacedView] = {name: _placed(name) for name in get_args(ViewName)}
"""Every view with a stated place, by the name that it has in token files."""


def view_of(name: str, config: EncodeConfig) -> View:
    """A view of a config by its name."""
    if name in VIEWS:
        return VIEWS[name]
    assert config.random_views is not None, f"{name} is no view of this config"
    return RandomView(config.random_views, config.random_views.names.index(name))
