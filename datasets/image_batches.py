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
from jaxtyping import Int64, UInt8
from torch import Tensor

from datasets.corpus_split import CorpusSplit
from datasets.images import DecodedCache, crop, crop_offsets, to_batch
from datasets.order import Order, check_share, record_words
from datasets.prefetch import prefetched
from vqgan_core.config import AugmentConfig

__all__ = ["Batch", "ImageBatches", "ImagePass"]

Batch = dict[str, Tensor]
"""`{"images": float32 B C H W in [-1, 1], "labels": int64 B}`; labels are -1 where a corpus has no classes."""


class ImageBatches:
    """Endless shuffled batches; call it with the step to start at."""

    def __init__(
        self,
        split: CorpusSplit,
        size: tuple[int, int],
        batch_size: int,
        *,
        seed: int,
        augment: AugmentConfig,
        cache_bytes: int,
        num_threads: int,
    ) -> None:
        """Made by Corpus.batches, which says what the arguments are."""
        self._split, self._size, self._batch_size = split, size, batch_size
        self._order = Order(split.counts, seed)
        self._seed, self._augment, self._num_threads = seed, augment, num_threads
        self._cache = DecodedCache(cache_bytes)
        self._share = (0, 1, 1)

    def share(self, rank: int, world_size: int, num_pieces: int = 1) -> ImageBatches:
        """The same batches, of which this process is given its part alone: an equal share of each piece.

        Raises:
            ValueError: the batch cannot be cut into equal shares.
        """
        check_share(self._batch_size, rank, world_size, num_pieces)
        own = copy.copy(self)
        own._share = (rank, world_size, num_pieces)
        return own

    def __call__(self, start_step: int) -> Iterator[Batch]:
        """Batches from a step on, made ahead by threads."""
        return prefetched(self.batch, itertools.count(start_step), self._num_threads)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        position = self._order.batch(step, self._batch_size, *self._share)
        numbers = self._split.by_shard[position.records]
        # Three words a record, whatever of them is used: switching mirroring on leaves the crops where they were.
        words = record_words(3, self._seed, position.epochs, self._split.key_words[numbers])
        images = [self._augmented(*pair) for pair in zip(numbers.tolist(), words.tolist(), strict=True)]
        return {"images": to_batch(images), "labels": torch.from_numpy(self._split.labels[numbers])}

    def _augmented(self, number: int, words: list[int]) -> UInt8[np.ndarray, "H W C"]:
        image = self._cache.get(number, self._split.image)
        place = (words[0], words[1]) if self._augment.random_crop else None
        mirrored = self._augment.horizontal_flip and words[2] >> 63 == 1
        return crop(image, crop_offsets(image.shape, self._size, place), self._size, mirrored=mirrored)


class ImagePass:
    """Given records once, in order, cropped at the centre; the last batch is short. Each iteration starts anew."""

    def __init__(
        self,
        split: CorpusSplit | None,
        numbers: Int64[np.ndarray, " R"],
        size: tuple[int, int],
        batch_size: int,
        *,
        mirrored: bool,
        num_threads: int,
    ) -> None:
        """Made by Corpus.sequential, which says what the arguments are."""
        self._split, self._size, self._batch_size = split, size, batch_size
        self._mirrored, self._num_threads = mirrored, num_threads
        self.numbers = numbers
        """Which records, in the order in which they come."""

    def __len__(self) -> int:
        return (len(self.numbers) + self._batch_size - 1) // self._batch_size

    def share(self, rank: int, world_size: int) -> ImagePass:
        """Every world_size-th record, from this process' first one on: together, the processes pass each once."""
        own = copy.copy(self)
        own.numbers = self.numbers[rank::world_size]
        return own

    def __iter__(self) -> Iterator[Batch]:
        return prefetched(self._batch, range(len(self)), self._num_threads)

    def _batch(self, index: int) -> Batch:
        assert self._split is not None, "an empty split has no batch"
        numbers = self.numbers[index * self._batch_size : (index + 1) * self._batch_size]
        images = [self._centred(self._split.image(number)) for number in numbers.tolist()]
        return {"images": to_batch(images), "labels": torch.from_numpy(self._split.labels[numbers])}

    def _centred(self, image: UInt8[np.ndarray, "h w C"]) -> UInt8[np.ndarray, "H W C"]:
        return crop(image, crop_offsets(image.shape, self._size), self._size, mirrored=self._mirrored)
