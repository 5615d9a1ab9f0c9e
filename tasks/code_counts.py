"""How often each code occurs in a token dataset, counted where a token file is written and kept beside it.

Axes: K entries.

A part's `summary` has the counts of its file, so that nobody reads a token file again for them: neither a run that
finds it made, nor the token dataset of a grown corpus. Parts from before there were counts are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.store import Part, Store
from datasets.token_file import read_token_file

__all__ = ["CodeCounts", "counted"]

_CODES = "codes"


class Unit(Protocol):
    """A shard in a view."""

    @property
    def split(self) -> str:
        """Of the shard."""

    @property
    def shard(self) -> str:
        """Its path."""


class CodeCounts:
    """Counts over parts as they come: by split, and of the shards that the tokenizer was trained on."""

    def __init__(self, codebook_size: int, known: Set[str], store: Store) -> None:
        """Nothing is counted yet.

        Args:
            codebook_size: K.
            known: shards that the tokenizer was trained on.
            store: where parts are.
        """
        self.by_split: dict[str, NDArray[np.int64]] = {}
        self.known = np.zeros(codebook_size, np.int64)
        """Counts of the known shards."""
        self._shards, self._store = known, store

    @property
    def total(self) -> NDArray[np.int64]:
        """Counts of all splits."""
        return sum(self.by_split.values(), np.zeros_like(self.known))

    def add(self, unit: Unit, part: Part) -> Part:
        """Count a part; the same part without its counts: of millions, nobody could hold them."""
        self._count(unit, part, 1)
        return part.model_copy(update={"summary": {}})

    def remove(self, unit: Unit, part: Part) -> None:
        """Take a part out again."""
        self._count(unit, part, -1)

    def _count(self, unit: Unit, part: Part, sign: int) -> None:
        counts = sign * self._of(part)
        self.by_split[unit.split] = self.by_split.get(unit.split, 0) + counts
        self.known += counts * (unit.shard in self._shards)

    def _of(self, part: Part) -> NDArray[np.int64]:
        size = len(self.known)
        if _CODES not in part.summary:
            name = part.files[0].path.rsplit("/", 1)[-1]
            return np.array(counted(self._store.read_part(part, name), name, size)[_CODES])
        return np.array(part.summary[_CODES], np.int64)


def counted(data: bytes, name: str, codebook_size: int) -> Mapping[str, Any]:
    """What the part of a token file says of it."""
    file = read_token_file(data, name)
    return {_CODES: np.bincount(file.indices.reshape(-1), minlength=codebook_size).tolist()}
