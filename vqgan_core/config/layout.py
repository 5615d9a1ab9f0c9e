"""Config of bounding-box layouts as tokens."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from vqgan_core.config.base import Config


class LayoutConfig(Config):
    """How objects and their boxes become tokens; see `vqgan_core.prior.layouts`."""

    codebook_size: int = Field(8192, ge=5, le=2**24)
    """K: a point is one of ⌊√K⌋ · ⌊√K⌋, a class one of K - 1."""
    max_objects: int = Field(30, ge=1, le=1000)
    """M: the first so many objects of an image are told."""
    points: Literal["corners", "center"] = "corners"
    """What is told of a box: upper left and lower right corner, or its centre."""
    tell_part: bool = False
    """Tell boxes as they are in the whole image, and then the part that is shown; otherwise as they are in the part."""

    @property
    def tokens_an_object(self) -> int:
        """Tokens of a class and its points."""
        return 3 if self.points == "corners" else 2

    @property
    def num_tokens(self) -> int:
        """Tokens of an image."""
        return self.max_objects * self.tokens_an_object + 2 * self.tell_part

    @model_validator(mode="after")
    def _no_point_means_that_there_is_no_object(self) -> Self:
        if math.isqrt(self.codebook_size) ** 2 == self.codebook_size:
            raise ValueError(
                f"codebook_size {self.codebook_size} is a square: its last token would be a point and mean that there "
                "is no object; add one"
            )
        return self
