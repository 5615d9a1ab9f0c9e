"""Planes: what can be read of a record, aligned to the pixel.

Its image, what the corpus keeps beside it, or what is computed from the image on the fly.

Source of `edges`: Canny, "A Computational Approach to Edge Detection" (1986), as OpenCV computes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config.base import Config

__all__ = [
    "PLANE_NAME",
    "EdgesPlane",
    "ImagePlane",
    "LowResolutionPlane",
    "PlaneConfig",
    "StoredPlane",
    "by_kind",
]

PLANE_NAME = r"^[a-z][a-z0-9_]{0,31}$"
"""Names of stored planes: they are member names of tars and columns of tables."""


class ImagePlane(Config):
    """The image itself, in [-1, 1]."""

    kind: Literal["image"] = "image"


class StoredPlane(Config):
    """What the corpus has beside the image: a label map, or values such as depth, in [-1, 1]."""

    kind: Literal["stored"] = "stored"
    name: str = Field(pattern=PLANE_NAME)
    """Its name in shard.pairs."""


class EdgesPlane(Config):
    """Edges of the cropped image: one channel, 1 on an edge and -1 elsewhere."""

    kind: Literal["edges"] = "edges"
    sigma_px: float = Field(1.0, ge=0, le=16)
    """Standard deviation of the Gaussian that smoothes the image first; 0: none."""
    low_threshold: float = Field(50.0, gt=0)
    """Gradient (sum of the absolute Sobel responses, on 0…255) from which a pixel continues an edge."""
    high_threshold: float = Field(100.0, gt=0)
    """Gradient from which a pixel starts an edge."""

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        if self.low_threshold > self.high_threshold:
            raise ValueError(f"low_threshold {self.low_threshold} is above high_threshold {self.high_threshold}")
        return self


class LowResolutionPlane(Config):
    """The cropped image, each square of factor × factor pixels averaged to one; in [-1, 1]."""

    kind: Literal["low_resolution"] = "low_resolution"
    factor: int = Field(4, ge=2, le=8)
    """By which height and width are divided."""


def by_kind(value: Any) -> Any:
    """Read `edges` as the kind edges with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


PlaneConfig = Annotated[
    ImagePlane | StoredPlane | EdgesPlane | LowResolutionPlane, Field(discriminator="kind"), BeforeValidator(by_kind)
]
