"""Sorting more rows than memory holds: sorted runs on disk, merged while they are read.

A row is a tuple of texts, numbers and None; its first columns are what it is sorted by. Rows that agree in these keep
the order in which they were added. The runs are files without a name, so that a killed process leaves nothing behind.
Sixteen runs of one size become one of the next, so that of a billion rows there are at most sixty runs, and each row is
written four times.
"""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

__all__ = ["Row", "SortedRows"]

Row = tuple[Any, ...]
"""JSON scalars."""

_ROWS_IN_MEMORY = 20_000
_RUNS_TO_MERGE = 16  # each costs an open file and a chunk of memory while it is merged
_CHUNK_BYTES = 1 << 17


class SortedRows:
    """Rows in the order of their first `num_keys` columns. Add them all, then read them as often as needed."""

    def __init__(self, num_keys: int = 1, rows: Iterable[Row] = (), *, rows_in_memory: int = _ROWS_IN_MEMORY) -> None:
        """Take rows; `rows_in_memory` says how many are held before they go to a file."""
        self._num_keys, self._limit = num_keys, rows_in_memory
        self._runs: list[list[IO[bytes]]] = []  # by size; a larger run has older rows than any smaller one
        self._held: list[Row] = []
        self._is_sorted = True
        self._count = 0
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return self._count

    def add(self, row: Row) -> None:
        """Take a row."""
        self._held.append(row)
        self._is_sorted = False
        self._count += 1
        if len(self._held) >= self._limit:
            self._keep(self._written(self._sorted()), 0)
            self._held = []

    def __iter__(self) -> Iterator[Row]:
        if not self._runs:
            return iter(self._sorted())
        runs = (_read(run) for runs in reversed(self._runs) for run in runs)
        return heapq.merge(*runs, self._sorted(), key=self._key)

    def _keep(self, run: IO[bytes], size: int) -> None:
        if size == len(self._runs):
            self._runs.append([])
        runs = self._runs[size]
        runs.append(run)
        if len(runs) == _RUNS_TO_MERGE:
            self._runs[size] = []
            self._keep(self._written(heapq.merge(*map(_read, runs), key=self._key)), size + 1)

    def _key(self, row: Row) -> Row:
        return row[: self._num_keys]

    def _sorted(self) -> list[Row]:
        if not self._is_sorted:
            self._held.sort(key=self._key)
            self._is_sorted = True
        return self._held

    def _written(self, rows: Iterable[Row]) -> IO[bytes]:
        # Any path can be written: without ensure_ascii=False, names that are no UTF-8 keep their lone surrogates.
        file = tempfile.TemporaryFile(prefix="tessera-")  # noqa: SIM115 - lives as long as these rows
        for row in rows:
            file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        return file


def _read(file: IO[bytes]) -> Iterator[Row]:
    """The rows of a run; several may read it at once, each at its own place."""
    offset, rest = 0, b""
    while chunk := os.pread(file.fileno(), _CHUNK_BYTES, offset):
        offset += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield tuple(json.loads(line))
