"""Configs of paired files: what a corpus keeps beside each image, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from vqgan_core.config import Config
from vqgan_core.config.planes import PLANE_NAME, by_kind

__all__ = ["AlphaPair", "FilesPair", "LabelMaps", "PairConfig", "PairName", "StoredContent", "ValueMaps"]

PairName = Annotated[str, Field(pattern=PLANE_NAME)]


class LabelMaps(Config):
    """A class for each pixel. Resized by nearest neighbour, never interpolated; stored in 8 bits, lossless."""

    kind: Literal["labels"] = "labels"
    num_classes: int = Field(ge=2, le=256)
    """Classes are 0 … num_classes - 1; an image with another label is quarantined."""
    void_label: int | None = Field(None, ge=0, le=65535)
    """Label of pixels without a class (often 255), which become the last class; null: there are none."""


class ValueMaps(Config):
    """Numbers for each pixel, such as depth; lossless."""

    kind: Literal["values"] = "values"
    channels: int = Field(1, ge=1, le=4)
    """Numbers a pixel."""
    bits: Literal[8, 16] = 8
    """Depth of the files and of what is stored; 16 bits have one channel. Full scale becomes [-1, 1]."""
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Pillow's filter, antialiased when shrinking."""

    @model_validator(mode="after")
    def _deep_files_have_one_channel(self) -> Self:
        if self.bits == 16 and self.channels > 1:
            raise ValueError(f"16 bits come with one channel, got channels {self.channels}: use 8 bits, or more pairs")
        return self


StoredContent = LabelMaps | ValueMaps
"""What a stored plane says of each pixel."""


class FilesPair(Config):
    """A second file for each image of a folder source."""

    kind: Literal["files"] = "files"
    url: str | None = Field(None, min_length=1)
    """Folder or prefix of the second files; null: the source's own."""
    pattern: str = Field("{path}.png", pattern=r"^[^{}]*\{path\}[^{}]*$")
    """Name of an image's second file, relative to url; {path} is the image's without its extension."""
    image_suffix: str = ""
    """What images' names end with, before the extension, that their second files' {path} lacks."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server, if url is on another one than the store."""
    holds: Annotated[StoredContent, Field(discriminator="kind"), BeforeValidator(by_kind)]
    """What the files say of each pixel."""

    def recipe(self, *, complete: bool = False) -> dict[str, Any]:
        """Without where the files are: a corpus depends on what they are, which the listing says."""
        where = ("url", "pattern", "image_suffix", "endpoint_url")
        return {name: value for name, value in super().recipe(complete=complete).items() if name not in where}


class AlphaPair(Config):
    """The image's own transparency as a label map of two classes: 0 see-through, 1 opaque."""

    kind: Literal["alpha"] = "alpha"
    threshold: int = Field(128, ge=1, le=255)
    """Opacity (of 255) from which a pixel is opaque; images without transparency are so everywhere."""

    @property
    def holds(self) -> LabelMaps:
        """What is stored."""
        return LabelMaps(num_classes=2)


PairConfig = Annotated[FilesPair | AlphaPair, Field(discriminator="kind"), BeforeValidator(by_kind)]
