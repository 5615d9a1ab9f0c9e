"""What the encode stage writes beside an image's own tokens: for each condition, a column and each record's tokens.

Axes: B batch, M tokens of a column, H×W pixels of the window that is shown of a record, h×w its grid of image tokens.

A condition knows its column from configs and manifests alone, so that a plan needs no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.annotations import AnnotatedImage, read_annotations
from datasets.corpus import Batch, Corpus, Record
from datasets.errors import SourceError
from datasets.images import Window
from datasets.store import Artifact
from datasets.token_file import TokenColumn
from tasks.encoded_size import PixelSize, encoded_px, own_grid, said
from tasks.models import load_tokenizer, tokenizer_config
from tasks.plane import planes_of
from vqgan_core.config import (
    BoxesCondition,
    ConditionConfig,
    CoordinatesCondition,
    EncodeConfig,
    LowResolutionPlane,
    PlaneCondition,
    PlaneConfig,
    TokenizerConfig,
)
from vqgan_core.prior.coordinates import coordinate_ramp, coordinate_tokens
from vqgan_core.prior.layouts import Box, LayoutObject, layout_tokens
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import autocast
from vqgan_core.training.images import check_batch, images_of
from vqgan_core.training.precision import Precision

Tokens = NDArray[np.int64]
"""`B M`."""


@dataclass(frozen=True)
class Shown:
    """Records of a batch, and the window of each that is shown."""

    batch: Batch
    records: Sequence[Record]
    windows: Sequence[Window]
    device: torch.device
    """Where tokenizers compute."""


class Condition(Protocol):
    """One column of condition tokens."""

    @property
    def column(self) -> TokenColumn:
        """What the tokens mean."""

    @property
    def planes(self) -> Mapping[str, PlaneConfig]:
        """What has to be read of each record, by its name in a batch."""

    def tokens(self, shown: Shown) -> Tokens:
        """The tokens of a batch."""


def conditions_of(
    config: EncodeConfig, corpus: Corpus, tokenizer: Artifact, others: Mapping[str, Artifact]
) -> list[Condition]:
    """The conditions of a config, by name.

    Args:
        config: of the encode stage.
        corpus: whose records are told.
        tokenizer: that of the images.
        others: the tokenizer of each condition that has one of its own.

    Raises:
        ValueError: sizes that do not fit together.
        SourceError: annotations that cannot be read.
    """
    return [
        _condition(name, config.conditions[name], config, corpus, others.get(name, tokenizer), tokenizer)
        for name in sorted(config.conditions)
    ]


def _condition(
    name: str, about: ConditionConfig, config: EncodeConfig, corpus: Corpus, own: Artifact, tokenizer: Artifact
) -> Condition:
    model = tokenizer_config(tokenizer)
    size_px = encoded_px(config, model)
    factor = size_px[0] // own_grid(config, model)[0]
    if isinstance(about, CoordinatesCondition):
        return _Coordinates(name, about, size_px, factor)
    if isinstance(about, BoxesCondition):
        return _Boxes(name, about, corpus)
    return _Plane(name, about, own, size_px, config.precision)


class _Plane:
    """A plane of the record through a tokenizer."""

    def __init__(
        self, name: str, config: PlaneCondition, artifact: Artifact, size_px: PixelSize, precision: Precision
    ) -> None:
        self.name, self.artifact, self.size_px, self.precision = name, artifact, size_px, precision
        self.model = tokenizer_config(artifact)
        self.plane = self.model.plane if config.plane is None else config.plane
        self._loaded: Tokenizer | None = None

    @property
    def planes(self) -> Mapping[str, PlaneConfig]:
        return {self.name: self.plane}

    @cached_property
    def column(self) -> TokenColumn:
        model = self.model
        shrunk = self.plane.factor if isinstance(self.plane, LowResolutionPlane) else 1
        size_px, factor = (self.size_px[0] // shrunk, self.size_px[1] // shrunk), model.autoencoder.downsampling_factor
        if any(side % factor for side in size_px):
            raise ValueError(
                f"encode.conditions.{self.name}: {said(size_px)} px of plane {self.plane.kind} are no multiple of its "
                f"tokenizer's downsampling factor {factor}"
            )
        height, width = model.grid(*size_px)
        manifest = self.artifact.manifest
        return TokenColumn(
            name=self.name,
            tokenizer_fingerprint=manifest.fingerprint,
            tokenizer_digest=manifest.digest,
            codebook_size=model.codebook_size,
            factor=factor * shrunk,
            height=height,
            width=width,
            preprocessing={
                "kind": "plane", "plane": self.plane.model_dump(mode="json"), "size_px": said(size_px),
                "precision": self.precision,
            },
        )  # fmt: skip

    def tokens(self, shown: Shown) -> Tokens:
        if self._loaded is None:
            self._loaded = load_tokenizer(self.artifact, shown.device)
        own = {self.model.batch_name: shown.batch[self.name]}
        check_batch(own, self.model)
        with autocast(shown.device, self.precision):
            seen = images_of({name: plane.to(shown.device) for name, plane in own.items()}, self.model)
            return self._loaded.encode(seen).flatten(1).cpu().numpy()


@dataclass(frozen=True)
class _Coordinates:
    """Where in the stored image each cell is."""

    name: str
    config: CoordinatesCondition
    size_px: PixelSize
    factor: int

    @property
    def planes(self) -> Mapping[str, PlaneConfig]:
        return {}

    @property
    def column(self) -> TokenColumn:
        height, width = (side // self.factor for side in self.size_px)
        return TokenColumn(
            name=self.name, codebook_size=self.config.num_levels, factor=self.factor, height=height, width=width,
            preprocessing={"kind": "coordinates", "size_px": said(self.size_px)},
        )  # fmt: skip

    def tokens(self, shown: Shown) -> Tokens:
        ramps = [
            window.cut(coordinate_ramp(record.height, record.width)[0].numpy().transpose(1, 2, 0))
            for record, window in zip(shown.records, shown.windows, strict=True)
        ]
        coordinates = torch.from_numpy(np.stack(ramps)).permute(0, 3, 1, 2)
        return coordinate_tokens(coordinates, self.factor, self.config.num_levels).flatten(1).numpy()


class _Boxes:
    """Objects and their boxes, in the window that is shown."""

    def __init__(self, name: str, config: BoxesCondition, corpus: Corpus) -> None:
        self.name, self.config, self.crop = name, config, corpus.crop
        self.annotations = read_annotations(config.annotations, config.endpoint_url)
        records = (record for split, count in corpus.splits.items() for record in corpus.records(split, range(count)))
        if all(self.annotations.of(record.source_path) is None for record in records):
            raise SourceError(
                f"{config.annotations} names none of the corpus' images: it has {list(self.annotations.images)[:3]} …, "
                f"the corpus {[record.source_path for record in corpus.records(min(corpus.splits), range(1))]} …"
            )

    @property
    def planes(self) -> Mapping[str, PlaneConfig]:
        return {}

    @cached_property
    def column(self) -> TokenColumn:
        return TokenColumn(
            name=self.name, codebook_size=self.config.codebook_size, height=1, width=self.config.num_tokens,
            preprocessing={
                **self.config.recipe(), "annotations_sha256": self.annotations.sha256,
                "classes": list(self.annotations.class_names),
            },
        )  # fmt: skip

    def tokens(self, shown: Shown) -> Tokens:
        return np.array(
            [self._record(record, window) for record, window in zip(shown.records, shown.windows, strict=True)],
            np.int64,
        )

    def _record(self, record: Record, window: Window) -> list[int]:
        image = self.annotations.of(record.source_path) or AnnotatedImage(1, 1, ())
        objects = [
            LayoutObject(item.category, Box(item.left, item.top, item.width, item.height), int(item.is_group))
            for item in image.objects
        ]
        part = _part(image, self.crop, record, window)
        return layout_tokens(
            objects, self.config, len(self.annotations.class_names), part=part, mirrored=window.mirrored
        )


def _part(image: AnnotatedImage, crop: str, record: Record, window: Window) -> Box:
    """Which part of the source image a window of the stored one shows."""
    short = min(image.width, image.height)
    whole = (short / image.width, short / image.height) if crop == "center" else (1.0, 1.0)
    width, height = whole[0] / record.width, whole[1] / record.height  # of a stored pixel
    left, top = (1 - whole[0]) / 2 + window.left * width, (1 - whole[1]) / 2 + window.top * height
    return Box(left, top, window.width * width, window.height * height)


def planes_and(model: TokenizerConfig, conditions: Sequence[Condition]) -> dict[str, PlaneConfig]:
    """Everything that has to be read of each record: what the tokenizer encodes, and what conditions are made from."""
    found = planes_of(model)
    for condition in conditions:
        found |= condition.planes
    return found
