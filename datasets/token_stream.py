"""Training batches of more tokens than memory holds: the same ones, from the few files of the order's window.

Axes: B batch, V views.

An order permutes the records of 16 files at a time (`datasets.order`), so those are read whole and verified, and those
of the next window while this one is passed. Of all others only the footer is read. Batches are the in-memory reader's,
to the bit, so which of the two reads is a matter of execution; the validation split is held in memory.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64

from datasets.errors import TokenError
from datasets.files import Files
from datasets.image_batches import Batch
from datasets.order import WINDOW, Order, Position, record_words
from datasets.prefetch import prefetched
from datasets.shares import Shared
from datasets.store import Artifact
from datasets.token_file import TokenMeta, read_token_file
from datasets.token_head import TokenHead, read_token_head
from datasets.tokens import Read, Split, TokenDataset, common_meta
from vqgan_core.config.tokens import TARGET

__all__ = ["StreamedBatches", "StreamedTokens", "open_tokens"]

_NUM_READERS = 4

_Unit = tuple[TokenHead, ...]
"""The files of the same records in all views."""


def open_tokens(artifact: Artifact, memory_bytes: int) -> TokenDataset | StreamedTokens:
    """The tokens of an artifact for training: in memory, or streamed where its files are larger than that together.

    Raises:
        TokenError: as the two readers.
    """
    sizes = [entry.bytes for entry in artifact.manifest.files if entry.path.endswith(".parquet")]
    return TokenDataset.open(artifact) if sum(sizes) <= memory_bytes else StreamedTokens.open(artifact)


class StreamedTokens:
    """What training needs of a token dataset, without holding it."""

    def __init__(self, files: Files, sizes: Mapping[str, int]) -> None:
        """Read the footers of all token files.

        Args:
            files: where they are read from.
            sizes: bytes of each token file, by path.

        Raises:
            TokenError: there is none, one is damaged, or views are not stored alike.
            TokenMismatch: they come from different tokenizers.
        """
        names = sorted(sizes)
        if not names:
            raise TokenError("a token dataset has at least one Parquet file, this one has none")
        heads = list(
            prefetched(lambda i: read_token_head(files, names[i], sizes[names[i]]), range(len(names)), _NUM_READERS)
        )
        self._files = files
        self.meta: TokenMeta = common_meta({head.path: head.meta for head in heads})
        """What the indices mean."""
        views = sorted({head.view for head in heads})
        splits = sorted({head.split for head in heads})
        self._units = {name: _units(name, [h for h in heads if h.split == name], views) for name in splits}

    @classmethod
    def open(cls, artifact: Artifact) -> StreamedTokens:
        """The tokens of a published artifact.

        Raises:
            TokenError: as the constructor.
        """
        entries = [entry for entry in artifact.manifest.files if entry.path.endswith(".parquet")]
        return cls(artifact, {entry.path: entry.bytes for entry in entries})

    @property
    def splits(self) -> dict[str, int]:
        """Records of each split that has any."""
        return {name: sum(unit[0].num_records for unit in units) for name, units in self._units.items()}

    def batches(
        self, split: str, batch_size: int, *, seed: int, target: str = TARGET, columns: Sequence[str] = ()
    ) -> StreamedBatches:
        """Endless shuffled batches, as `TokenDataset.batches` has them.

        Raises:
            TokenError: the split is empty, or there is no such column.
        """
        for name in (target, *columns):
            self.meta.column(name)
        if split not in self._units:
            raise TokenError(f"these tokens have no record in split {split!r}; they have {self.splits}")
        return StreamedBatches(self._files, self._units[split], batch_size, seed, Read(target, tuple(columns)))

    def sequential(
        self,
        split: str,
        batch_size: int,
        *,
        limit: int | None = None,
        target: str = TARGET,
        columns: Sequence[str] = (),
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Every record once, as `TokenDataset.sequential` has them; the split is in memory while it is read.

        Raises:
            TokenError: there is no such column.
        """
        paths = [head.path for unit in self._units.get(split, ()) for head in unit]
        if not paths:
            return iter(())
        whole = TokenDataset(self._files, paths)
        return whole.sequential(split, batch_size, limit=limit, target=target, columns=columns, share=share)


class StreamedBatches(Shared):
    """Endless shuffled batches; call it with the step to start at. Step s's is a pure function of s."""

    def __init__(self, files: Files, units: Sequence[_Unit], batch_size: int, seed: int, read: Read) -> None:
        """Made by StreamedTokens.batches."""
        self._files, self._units, self._batch_size, self._seed, self._read = files, units, batch_size, seed, read
        counts = [unit[0].num_records for unit in units]
        self._order = Order(counts, seed)
        self._first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._ahead = max(1, WINDOW * sum(counts) // len(counts) // 2 // batch_size)
        """Steps: half a window."""

    def __call__(self, start_step: int) -> Iterator[Batch]:
        """Batches from a step on; files are read ahead by threads, which end with the iterator."""
        with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="tokens") as pool:
            loader = _Loader(self._files, self._units, pool)
            try:
                for step in itertools.count(start_step):
                    yield self._batch(step, loader)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, step: int, loader: _Loader) -> Batch:
        position = self._order.batch(step, self._batch_size, *self._share)
        numbers = self._units_of(position)
        later = self._units_of(self._order.batch(step + self._ahead, self._batch_size, *self._share))
        parts, places = [], []
        for number, unit in loader.units(np.unique(numbers), np.unique(later)).items():
            chosen = np.flatnonzero(numbers == number)
            rows = position.records[chosen] - self._first[number]
            words = record_words(1, self._seed, position.epochs[chosen], unit.key_words[rows])[:, 0]
            views = (words % np.uint64(unit.num_views)).astype(np.int64)
            parts.append(unit.batch(self._read, views, rows))
            places.append(chosen)
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}

    def _units_of(self, position: Position) -> Int64[np.ndarray, " B"]:
        return np.searchsorted(self._first, position.records, side="right") - 1


class _Loader:
    """The units that are needed now and soon; as many as two windows have are kept."""

    def __init__(self, files: Files, units: Sequence[_Unit], pool: ThreadPoolExecutor) -> None:
        self._files, self._all, self._pool = files, units, pool
        self._held: OrderedDict[int, Future[Split]] = OrderedDict()

    def units(self, now: Int64[np.ndarray, " n"], later: Int64[np.ndarray, " n"]) -> dict[int, Split]:
        """Those that are needed now, waited for, by number."""
        for number in (*now.tolist(), *later.tolist()):  # in this order they are read
            if number not in self._held:
                self._held[number] = self._pool.submit(self._load, number)
            self._held.move_to_end(number)
        while len(self._held) > max(2 * WINDOW, len(now) + len(later)):
            self._held.popitem(last=False)[1].cancel()
        return {number: self._held[number].result() for number in now.tolist()}

    def _load(self, number: int) -> Split:
        heads = self._all[number]
        files = [read_token_file(self._files.read(head.path), head.path) for head in heads]
        for head, file in zip(heads, files, strict=True):
            if not head.describes(file):
                raise TokenError(f"the footer of {head.path} was not received as it is: run again")
        return Split(heads[0].split, files, [head.view for head in heads])


def _units(split: str, heads: Sequence[TokenHead], views: Sequence[str]) -> list[_Unit]:
    """The files of a split in the order of their keys, those of the same records together."""
    by_view = {view: sorted((h for h in heads if h.view == view), key=lambda h: h.first_key) for view in views}
    shapes = {view: [(head.first_key, head.num_records) for head in files] for view, files in by_view.items()}
    if different := [view for view in views if shapes[view] != shapes[views[0]]]:
        raise TokenError(
            f"split {split!r}: the files of views {views[0]!r} and {different[0]!r} are not of the same records and "
            "cannot be read side by side: raise prior.execution.token_memory_bytes to read all into memory"
        )
    return list(zip(*by_view.values(), strict=True))
