"""Drawing a batch of planned samples, whichever way the config asks for, and what is said of each image.

Axes: B batch, N tokens, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.plane import pictures
from tasks.sample_plan import Records, Sample, large_grid
from tasks.told import Told
from vqgan_core.config import SampleConfig, SamplingConfig, canonical_json
from vqgan_core.config.tokenizer import TOP
from vqgan_core.prior import Prior, Sampler, beam_search, sample_large
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training.streams import stream_seed

Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Drawn:
    """An image, and what its JSON says beside label and seed."""

    sample: Sample
    pixels: NDArray[np.uint8]
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawer:
    """Everything that drawing needs, on its device."""

    config: SampleConfig
    prior: Prior
    tokenizer: Tokenizer
    device: torch.device
    told: Told | None = None
    """Records that a prior with condition columns is told."""
    records: Records | None = None
    """Records that are completed."""
    score: Score | None = None
    top_prior: Prior | None = None
    """Draws what the prior is told of a coarser level."""

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.prior, self.config, compiled=self.config.execution.compile)

    @cached_property
    def _top_sampler(self) -> Sampler:
        assert self.top_prior is not None
        return Sampler(self.top_prior, self.config, compiled=self.config.execution.compile)

    @property
    def takes_labels(self) -> bool:
        """Whether images are of a class."""
        return self.prior.takes_labels or (self.top_prior is not None and self.top_prior.takes_labels)

    def batches(self, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
        """What is drawn at once; beams are searched for a class, or a told record, at a time."""
        if self.config.num_beams:
            yield from (list(group) for _, group in groupby(samples, key=lambda item: (item.label, item.told)))
            return
        size = self.config.execution.batch_size
        yield from (list(samples[start : start + size]) for start in range(0, len(samples), size))

    @torch.no_grad()
    def draw(self, batch: Sequence[Sample]) -> list[Drawn]:
        """The images of a batch, in its order.

        Raises:
            ValueError: the prior cannot draw what is asked for.
        """
        abouts: list[dict[str, Any]] = [{} for _ in batch]
        columns = self._columns(batch)
        if self.config.num_beams:
            grids, scores = self._search(batch)
            abouts = [{"log_probability": round(score, 6)} for score in scores]
        else:
            grids = self._sample(batch, columns)
        images = self.tokenizer.decode(grids, self._top(columns))
        if self.score is not None:
            scores = self.score(images, self._labels(batch)).double().tolist()
            abouts = [{"score": round(score, 6)} for score in scores]
        shown = pictures(images, self.tokenizer.config)
        return [Drawn(*one) for one in zip(batch, shown, abouts, strict=True)]

    def _sample(self, batch: Sequence[Sample], columns: dict[str, Tensor] | None) -> Tensor:
        spec, config = self.prior.spec, self.config
        labels, seeds = self._given_labels(batch), [item.seed for item in batch]
        if config.size_px is not None:
            grid = large_grid(config.size_px, self.tokenizer.config)
            return sample_large(self.prior, labels, seeds, config, grid, columns=self._large_columns(batch))
        known = None
        if self.records is not None:
            known = torch.stack([self.records.known[item.record or ""] for item in batch]).to(self.device)
        known_first = config.completion.kind != "none" and config.completion.known_first
        tokens = self._sampler.sample(labels, seeds, known=known, known_first=known_first, columns=columns)
        return tokens.reshape(len(batch), spec.height, spec.width)

    def _search(self, batch: Sequence[Sample]) -> tuple[Tensor, list[float]]:
        """The beams of one class, as many as the batch has images: the likeliest first."""
        assert self.config.num_beams is not None
        spec = self.prior.spec
        labels = self._given_labels(batch[:1])
        columns = self._columns(batch[:1])
        found = beam_search(self.prior, labels, num_beams=self.config.num_beams, columns=columns)
        places = [item.number % self.config.num_per_class for item in batch]
        scores: list[float] = found.log_probability[0, places].double().tolist()
        return found.tokens[0, places].reshape(len(batch), spec.height, spec.width), scores

    def _columns(self, batch: Sequence[Sample]) -> dict[str, Tensor] | None:
        """What the prior is told of each image: of a record, or drawn."""
        if self.top_prior is not None:
            labels = self._labels(batch) if self.top_prior.takes_labels else None
            seeds = [stream_seed(item.seed, TOP) for item in batch]
            return {TOP: self._top_sampler.sample(labels, seeds)}
        if self.told is None:
            return None
        columns = self.told.columns([item.told for item in batch if item.told is not None])
        return {name: tokens.to(self.device) for name, tokens in columns.items()}

    def _large_columns(self, batch: Sequence[Sample]) -> dict[str, Tensor] | None:
        if self.told is None:
            return None
        grids = self.told.grids([item.told for item in batch if item.told is not None])
        return {name: grid.to(self.device) for name, grid in grids.items()}

    def _top(self, columns: dict[str, Tensor] | None) -> Tensor | None:
        """Of a tokenizer of two levels, the coarser grid, which the prior was told."""
        if self.tokenizer.top is None or columns is None:
            return None
        abouts = self.prior.spec.columns if self.told is None else self.told.about  # told, it may be a larger image's
        (about,) = (column for column in abouts if column.name == TOP)
        return columns[TOP].reshape(-1, about.height, about.width)

    def _given_labels(self, batch: Sequence[Sample]) -> Tensor | None:
        return self._labels(batch) if self.prior.takes_labels else None

    def _labels(self, batch: Sequence[Sample]) -> Tensor:
        return torch.tensor([item.label or 0 for item in batch], device=self.device)


def about(drawer: Drawer, drawn: Drawn) -> bytes:
    """The JSON of an image."""
    config, item, names = drawer.config, drawn.sample, drawer.prior.spec.class_names
    label = None if item.label is None else (names[item.label] if names else str(item.label))
    settings = SamplingConfig(**{name: getattr(config, name) for name in SamplingConfig.model_fields})
    said: dict[str, Any] = {"label": label, "class": item.label, "seed": item.seed, **drawn.about}
    if item.record is not None:
        said["record"] = item.record
    if drawer.told is not None and item.told is not None:
        said["told"] = {"key": drawer.told.keys[item.told], **drawer.told.summary()}
    return canonical_json(said | {"settings": settings.model_dump(mode="json")})
