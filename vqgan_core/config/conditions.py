"""Configs of what the encode stage writes for priors to be told first: columns of condition tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from vqgan_core.config.base import Config
from vqgan_core.config.layout import LayoutConfig
from vqgan_core.config.planes import PlaneConfig, by_kind

__all__ = ["BoxesCondition", "ConditionConfig", "CoordinatesCondition", "PlaneCondition"]


class PlaneCondition(Config):
    """A plane of the same record (edges, a stored map, the image at low resolution) through a second tokenizer."""

    kind: Literal["plane"] = "plane"
    plane: PlaneConfig | None = None
    """What is encoded; null: what the tokenizer was trained on."""
    tokenizer: str | None = None
    """Its name in condition_tokenizers, or fingerprint or URI of a published one; null: that of the images."""

    def recipe(self, *, complete: bool = False) -> dict[str, Any]:
        """Without the tokenizer's name: tokens depend on which it is, and the inputs say that."""
        return {name: value for name, value in super().recipe(complete=complete).items() if name != "tokenizer"}


class CoordinatesCondition(Config):
    """Where in the stored image each cell of the grid is, for windows of aligned images."""

    kind: Literal["coordinates"] = "coordinates"
    num_levels: int = Field(1024, ge=2, le=2**24)
    """K: the pixels are counted row by row, and a cell's mean number is cut into so many levels."""


class BoxesCondition(LayoutConfig):
    """Objects and their bounding boxes."""

    kind: Literal["boxes"] = "boxes"
    annotations: str = Field(min_length=1)
    """URL of a COCO annotation file; images are found by their path in the source, or by file name."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server, if the URL is on another one than the store."""

    def recipe(self, *, complete: bool = False) -> dict[str, Any]:
        """Without where the annotations are: tokens depend on what they say."""
        return {
            name: value
            for name, value in super().recipe(complete=complete).items()
            if name not in ("annotations", "endpoint_url")
        }


ConditionConfig = Annotated[
    PlaneCondition | CoordinatesCondition | BoxesCondition, Field(discriminator="kind"), BeforeValidator(by_kind)
]
