"""Bounding-box layouts as condition tokens: which objects there are in an image, and where.

Axes: M objects at most, K tokens, S = ⌊√K⌋ positions along each side of the image.

Source: the original's conditional builders (arXiv 2012.09841 §3.2, "layout"; its scene models). A point (x, y) of the
image is one token, round(y (S - 1)) S + round(x (S - 1)); an object is its class, then two corners or one centre; what
is left of the M objects is filled with K - 1. The part of the image that is shown is either two more corners after
the objects, or all boxes are told as they are in that part.

Departures: a box that the part cuts is as wide as what is left of it (the original keeps its whole width where the
left or the upper edge is cut: `legacy`). The original shuffles objects at every call; here they come as they are given,
and the first M count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vqgan_core.config import LayoutConfig

__all__ = ["WHOLE", "Box", "LayoutObject", "layout_objects", "layout_tokens"]


class Box(NamedTuple):
    """A rectangle, all four as shares of the image's width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    def mirrored(self) -> Box:
        """Left to right."""
        return self._replace(left=1 - self.right)

    def overlaps(self, part: Box) -> bool:
        """Whether they have more than an edge in common."""
        return min(self.right, part.right) > max(self.left, part.left) and min(self.bottom, part.bottom) > max(
            self.top, part.top
        )

    def inside(self, part: Box, *, legacy: bool = False) -> Box:
        """What is in the part, as shares of the part.

        Args:
            part: of the image.
            legacy: keep the whole width and height where the left or the upper edge is cut, as the original does.
        """
        left, top = _share((self.left - part.left) / part.width), _share((self.top - part.top) / part.height)
        if legacy:
            return Box(left, top, min(self.width / part.width, 1 - left), min(self.height / part.height, 1 - top))
        right, bottom = _share((self.right - part.left) / part.width), _share((self.bottom - part.top) / part.height)
        return Box(left, top, right - left, bottom - top)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


class LayoutObject(NamedTuple):
    """An object in the whole image."""

    category: int
    """Number of its class."""
    box: Box
    flags: int = 0
    """What else is known of it, as bits; the original's: 1 a group, 2 occluded, 4 a depiction, 8 seen from inside."""


def layout_tokens(
    objects: Sequence[LayoutObject],
    config: LayoutConfig,
    num_classes: int,
    *,
    part: Box = WHOLE,
    mirrored: bool = False,
    legacy: bool = False,
) -> list[int]:
    """The tokens of a layout: as many for every image, `config.num_tokens`.

    Args:
        objects: of the whole image; those outside of the part are left out.
        config: K, M, what an object's points are, and whether the part is told.
        num_classes: of the objects.
        part: of the image that is shown.
        mirrored: whether it is shown left to right.
        legacy: see `Box.inside`.

    Raises:
        ValueError: a class out of range, or more classes (with flags) than tokens.
    """
    tokens: list[int] = []
    for item in [item for item in objects if item.box.overlaps(part)][: config.max_objects]:
        box = item.box if config.tell_part else item.box.inside(part, legacy=legacy)
        tokens.append(_class_token(item, config, num_classes))
        tokens += _points(box.mirrored() if mirrored else box, config)
    padding = config.max_objects * config.tokens_an_object - len(tokens)
    tokens += [config.codebook_size - 1] * padding
    if config.tell_part:
        tokens += _corners(part.mirrored() if mirrored else part, config.codebook_size)
    return tokens


def layout_objects(tokens: Sequence[int], config: LayoutConfig, num_classes: int) -> Iterator[LayoutObject]:
    """The objects that tokens tell, to the precision of their points; a centre becomes a box without width."""
    size = config.tokens_an_object
    for start in range(0, config.max_objects * size, size):
        kind, *points = tokens[start : start + size]
        if kind == config.codebook_size - 1:
            return
        (left, top), (right, bottom) = (_point(token, config.codebook_size) for token in (points[0], points[-1]))
        flags, category = divmod(kind, num_classes)
        yield LayoutObject(category, Box(left, top, right - left, bottom - top), flags)


def _class_token(item: LayoutObject, config: LayoutConfig, num_classes: int) -> int:
    token = item.category + num_classes * item.flags
    if not 0 <= item.category < num_classes or token >= config.codebook_size - 1:
        raise ValueError(
            f"an object of class {item.category} with flags {item.flags}: there are {num_classes} classes and "
            f"{config.codebook_size} tokens, of which the last means that there is no object; raise codebook_size"
        )
    return token


def _points(box: Box, config: LayoutConfig) -> list[int]:
    if config.points == "corners":
        return _corners(box, config.codebook_size)
    return [_point_token(box.left + box.width / 2, box.top + box.height / 2, config.codebook_size)]


def _corners(box: Box, codebook_size: int) -> list[int]:
    return [_point_token(box.left, box.top, codebook_size), _point_token(box.right, box.bottom, codebook_size)]


def _point_token(x: float, y: float, codebook_size: int) -> int:
    side = math.isqrt(codebook_size)
    return round(y * (side - 1)) * side + round(x * (side - 1))  # halves to even, as the original's


def _point(token: int, codebook_size: int) -> tuple[float, float]:
    side = math.isqrt(codebook_size)
    row, column = divmod(token, side)
    return column / (side - 1), row / (side - 1)


def _share(value: float) -> float:
    return max(min(value, 1.0), 0.0)
