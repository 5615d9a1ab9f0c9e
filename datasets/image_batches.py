"""Batches of a corpus' images: endless and shuffled for training, every record once for validation and encoding.

Axes: B batch, C channels, H×W pixels of the crop, R records.

Every batch is a pure function of (split, arguments, step): threads, cache and start step change nothing.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from datasets.damage import Replacements
from datasets.images import Window, crop_offsets
from datasets.order import Order, record_words
from datasets.planes import Planes
from datasets.prefetch import prefetched
from datasets.shares import Shared
from datasets.views import View
from vqgan_core.config import AugmentConfig

__all__ = ["Batch", "ImageBatches", "ImagePass"]

Batch = dict[str, Tensor]
"""`{"images": float32 B C H W in [-1, 1], "labels": int64 B}`, with whatever other planes were asked for in place of or
beside the images; labels are -1 where a corpus has no classes."""


class ImageBatches(Shared):
    """Endless shuffled batches; call it with the step to start at."""

    def __init__(
        self,
        planes: Planes,
        batch_size: int,
        *,
        seed: int,
        augment: AugmentConfig,
        num_threads: int,
    ) -> None:
        """Made by Corpus.batches, which says what the arguments are."""
        self.replacements: Replacements | None = None
        """Damaged shards and what was done about them; None: the first one is an error."""
        self._split, self._planes, self._batch_size = planes.split, planes, batch_size
        self._order = Order(planes.split.counts, seed)
        self._seed, self._augment, self._num_threads = seed, augment, num_threads

    def skipping_damaged(self) -> ImageBatches:
        """The same batches, in which records of damaged shards are replaced and counted; else the first one raises."""
        own = copy.copy(self)
        own.replacements = Replacements(self._split)
        return own

    def __call__(self, start_step: int) -> Iterator[Batch]:
        """Batches from a step on, made ahead by threads."""
        return prefetched(self.batch, itertools.count(start_step), self._num_threads)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        position = self._order.batch(step, self._batch_size, *self._share)
        numbers = self._split.by_shard[position.records]
        if self.replacements is None:
            return self._read(position.epochs, numbers)
        return self.replacements.read(numbers, lambda sound: self._read(position.epochs[: len(sound)], sound))

    def _read(self, epochs: Int64[np.ndarray, " B"], numbers: Int64[np.ndarray, " B"]) -> Batch:
        # Three words a record, whatever of them is used: switching mirroring on leaves the crops where they were.
        words = record_words(3, self._seed, epochs, self._split.key_words[numbers])
        windows = [self._window(*pair) for pair in zip(numbers.tolist(), words.tolist(), strict=True)]
        planes = self._planes.batch(numbers.tolist(), windows)
        return {**planes, "labels": torch.from_numpy(self._split.labels[numbers])}

    def _window(self, number: int, words: list[int]) -> Window:
        place = (words[0], words[1]) if self._augment.random_crop else None
        mirrored = self._augment.horizontal_flip and words[2] >> 63 == 1
        size = self._planes.size
        return Window(*crop_offsets(self._split.shape(number), size, place), *size, mirrored=mirrored)


class ImagePass:
    """Given records once, in order and one view; the last batch is short. Each iteration starts anew."""

    def __init__(
        self,
        planes: Planes | None,
        numbers: Int64[np.ndarray, " R"],
        batch_size: int,
        *,
        view: View,
        num_threads: int,
    ) -> None:
        """Made by Corpus.sequential, which says what the arguments are."""
        self._planes, self._batch_size = planes, batch_size
        self._view, self._num_threads = view, num_threads
        self.numbers = numbers
        """Which records, in the order in which they come."""

    def __len__(self) -> int:
        return (len(self.numbers) + self._batch_size - 1) // self._batch_size

    def share(self, rank: int, world_size: int) -> ImagePass:
        """Every world_size-th record, from this process' first one on: together, the processes pass each once."""
        own = copy.copy(self)
        own.numbers = self.numbers[rank::world_size]
        return own

    def part(self, places: range) -> ImagePass:
        """Only the records at some places of this pass."""
        own = copy.copy(self)
        own.numbers = self.numbers[places.start : places.stop]
        return own

    def __iter__(self) -> Iterator[Batch]:
        return prefetched(self._batch, range(len(self)), self._num_threads)

    def _batch(self, index: int) -> Batch:
        assert self._planes is not None, "an empty split has no batch"
        numbers = self.numbers[index * self._batch_size : (index + 1) * self._batch_size]
        split, size = self._planes.split, self._planes.size
        windows = [
            self._view.window(split.shape(number), size, int(split.key_words[number])) for number in numbers.tolist()
        ]
        planes = self._planes.batch(numbers.tolist(), windows)
        return {**planes, "labels": torch.from_numpy(split.labels[numbers])}
