"""Configs of views: which windows of an image are encoded."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from vqgan_core.config.base import Config

__all__ = ["TEN_CROP", "RandomViewsConfig", "ViewName", "expanded"]

ViewName = Literal[
    "center",
    "center_flip",
    "top_left",
    "top_left_flip",
    "top_right",
    "top_right_flip",
    "bottom_left",
    "bottom_left_flip",
    "bottom_right",
    "bottom_right_flip",
]

TEN_CROP = "ten_crop"
"""Short for all of `ViewName`: the centre and the four corners, each as it is and mirrored."""


class RandomViewsConfig(Config):
    """Random resized crops: windows of a random area, aspect ratio and place, resized to the tokenizer's size.

    What is drawn depends on the seed, the view's number and the record's key, on nothing else.
    """

    count: int = Field(1, ge=1, le=100)
    """Views of each image: random_00, random_01, …"""
    scale: tuple[float, float] = (0.5, 1.0)
    """Least and largest share of the image's area."""
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width divided by height."""
    horizontal_flip: bool = True
    """Mirror half of them."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Other seeds give other windows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(f"random_{number:02d}" for number in range(self.count))

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> RandomViewsConfig:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale {list(self.scale)}: shares of the area, 0 < least ≤ largest ≤ 1")
        if not 0 < self.aspect_ratio[0] <= self.aspect_ratio[1]:
            raise ValueError(f"aspect_ratio {list(self.aspect_ratio)}: 0 < least ≤ largest")
        return self


def expanded(views: object) -> object:
    """A list of views with `ten_crop` spelled out, wherever it stands."""
    if not isinstance(views, (list, tuple)):
        return views
    return tuple(name for view in views for name in (get_args(ViewName) if view == TEN_CROP else (view,)))
