"""In which order records are read: a pure function of (counts, seed, epoch, step), so a position is a few integers.

N records lie in units (shards, token files). An epoch permutes the units, joins every `WINDOW` consecutive ones to a
window and permutes the records inside each window: reading touches few units at a time, and ingest has put records
into units by hash, so small windows mix classes already. Epochs follow each other without a gap: step s of batch size B
takes the positions [s·B, (s+1)·B) of that endless row. So every record comes exactly once an epoch, a batch may hold
the last records of one epoch and the first of the next, no batch is ever short or padded, and a corpus smaller than a
batch simply passes several epochs in it.

The world size does not enter: rank r of w takes the r-th of w equal slices of the global batch or, where a step
computes it in pieces, of each of its pieces. Finding any position costs O(units + records of a window), however far it
is.

Random numbers are splitmix64's (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, OOPSLA 2014,
with Stafford's mix 13), written out here because the streams of NumPy's and PyTorch's generators may change with their
version, and with them which records a resumed run sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64, UInt64

__all__ = ["WINDOW", "Order", "Position", "check_share", "hash_words", "permutation", "random_words", "record_words"]

WINDOW = 16
"""Units that are shuffled together. Part of the numbers: changing it changes every training run."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_UNITS, _RECORDS, _AUGMENT = 1, 2, 3  # the streams of an epoch


def hash_words(words: UInt64[np.ndarray, "*N"]) -> UInt64[np.ndarray, "*N"]:
    """Splitmix64 of each word: a bijection whose output bits look independent."""
    mixed = words + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def random_words(count: int, *stream: int) -> UInt64[np.ndarray, " count"]:
    """The first `count` words of the stream that the integers name; other integers, an unrelated stream."""
    state = np.zeros(1, np.uint64)
    for part in stream:
        state = hash_words(state ^ np.uint64(part & _MASK))
    return hash_words(np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN) + state)


def permutation(count: int, *stream: int) -> Int64[np.ndarray, " count"]:
    """A permutation of range(count), by sorting random words; a tie (1 in 2^64) keeps its order."""
    return np.argsort(random_words(count, *stream), kind="stable").astype(np.int64)


def record_words(
    count: int, seed: int, epochs: Int64[np.ndarray, " B"], keys: UInt64[np.ndarray, " B"]
) -> UInt64[np.ndarray, "B count"]:
    """`count` random words for each record in each epoch: what its augmentation and view are drawn from.

    A record is named by its key, not by its number, so its stream stays when the corpus grows.
    """
    state = random_words(1, seed, _AUGMENT)
    state = hash_words(hash_words(state ^ epochs.astype(np.uint64)) ^ keys)
    return hash_words(state[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN))


def check_share(batch_size: int, rank: int, world_size: int, num_pieces: int = 1) -> None:
    """Refuse a batch that cannot be cut into equal shares.

    Raises:
        ValueError: the numbers do not fit.
    """
    if batch_size < 1 or batch_size % (world_size * num_pieces) or not 0 <= rank < world_size:
        pieces = f" in {num_pieces} pieces" if num_pieces > 1 else ""
        raise ValueError(
            f"rank {rank} of {world_size} cannot take an equal share of a batch of {batch_size}{pieces}: make it "
            f"a multiple of {world_size * num_pieces}"
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where the records of a batch are: for each its epoch, and its number in the joined list of all units."""

    epochs: Int64[np.ndarray, " B"]
    records: Int64[np.ndarray, " B"]


class Order:
    """The endless order of the records of some units. Stateless for its callers: only caches, safe in threads."""

    def __init__(self, counts: Sequence[int], seed: int, window: int = WINDOW) -> None:
        """Describe the units.

        Args:
            counts: records of each unit, in the order of the joined list.
            seed: names the order.
            window: units that are shuffled together.

        Raises:
            ValueError: there is no record, or a negative count.
        """
        if any(count < 0 for count in counts) or sum(counts) == 0:
            raise ValueError(f"an order needs at least one record, got units of {list(counts)[:8]} records")
        self._counts = np.asarray(counts, np.int64)
        self._first = np.concatenate([[0], np.cumsum(self._counts)[:-1]])
        self._seed = seed
        self._window = window
        self.num_records = int(self._counts.sum())
        self._epoch = lru_cache(maxsize=4)(self._plan)
        self._permuted = lru_cache(maxsize=8)(self._records_of_window)

    def batch(self, step: int, batch_size: int, rank: int = 0, world_size: int = 1, num_pieces: int = 1) -> Position:
        """The records of a step, or one rank's share of them.

        Args:
            step: which batch, from 0.
            batch_size: records of the global batch.
            rank: whose share.
            world_size: into how many shares each piece is cut.
            num_pieces: into how many equal pieces the batch is cut.

        Raises:
            ValueError: the batch cannot be cut into equal shares.
        """
        check_share(batch_size, rank, world_size, num_pieces)
        share = batch_size // (world_size * num_pieces)
        starts = [step * batch_size + (piece * world_size + rank) * share for piece in range(num_pieces)]
        parts = [self.positions(start, start + share) for start in starts]
        return Position(
            *(np.concatenate(arrays) for arrays in zip(*((p.epochs, p.records) for p in parts), strict=True))
        )

    def positions(self, start: int, stop: int) -> Position:
        """The records at the positions [start, stop) of the endless row."""
        epochs, records = [], []
        while start < stop:
            epoch, begin = divmod(start, self.num_records)
            piece = self._within(epoch, begin, min(begin + stop - start, self.num_records))
            records.append(piece)
            epochs.append(np.full(len(piece), epoch, np.int64))
            start += len(piece)
        if not records:
            return Position(np.zeros(0, np.int64), np.zeros(0, np.int64))
        return Position(np.concatenate(epochs), np.concatenate(records))

    def _within(self, epoch: int, start: int, stop: int) -> Int64[np.ndarray, " n"]:
        """From `start` of an epoch to `stop` or the end of the window, whichever is nearer."""
        starts = self._epoch(epoch)[1]
        window = int(np.searchsorted(starts, start, side="right")) - 1
        offset = int(starts[window])
        return self._permuted(epoch, window)[start - offset : stop - offset]

    def _plan(self, epoch: int) -> tuple[Int64[np.ndarray, " U"], Int64[np.ndarray, " W"]]:
        """The epoch's order of units, and at which position of the epoch each window starts."""
        units = permutation(len(self._counts), self._seed, epoch, _UNITS)
        sizes = np.add.reduceat(self._counts[units], np.arange(0, len(units), self._window))
        return units, np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def _records_of_window(self, epoch: int, window: int) -> Int64[np.ndarray, " n"]:
        units = self._epoch(epoch)[0][window * self._window : (window + 1) * self._window]
        records = np.concatenate([np.arange(self._first[u], self._first[u] + self._counts[u]) for u in units])
        shuffled: Int64[np.ndarray, " n"] = records[permutation(len(records), self._seed, epoch, _RECORDS, window)]
        return shuffled
