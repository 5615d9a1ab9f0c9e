"""What training can do about damaged or lost shards: replace each of their records by one of the next shard.

Which record takes a lost one's place depends on nothing but which shards are damaged, so batches stay a pure function
of their step, and a resumed run goes on with the same ones. Whatever is replaced is counted, by shard.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from datasets.corpus_split import CorpusSplit
from datasets.errors import CorpusError
from datasets.store import CorruptObject, ObjectMissing

__all__ = ["Replacements"]

_Numbers = Int64[np.ndarray, " B"]
_DAMAGE = (CorpusError, CorruptObject, ObjectMissing)


class Replacements:
    """The damaged shards of a split, as they are found. Safe in threads."""

    def __init__(self, split: CorpusSplit) -> None:
        """Nothing is known to be damaged yet."""
        self._split = split
        self._starts = np.concatenate([[0], np.cumsum(split.counts)])
        self._place = np.argsort(split.by_shard)
        self._damaged: dict[int, str] = {}
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        """Records that were replaced so far, by the shard that they were lost with."""

    @property
    def reasons(self) -> dict[str, str]:
        """What is wrong with each damaged shard."""
        return {self._split.shards[shard]: reason for shard, reason in self._damaged.items()}

    def read(self, numbers: _Numbers, make: Callable[[_Numbers], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` reads of these records, or of those that replace them.

        Raises:
            CorpusError: every shard is damaged.
        """
        while True:
            sound = np.array([self._sound(int(number)) for number in numbers], np.int64)
            try:
                made = make(sound)
            except _DAMAGE:
                if not self._find_damage(sound, make):
                    raise  # not the fault of any one record
                continue
            with self._lock:
                for number in numbers[numbers != sound].tolist():
                    self.counts[self._split.shards[self._shard_of(number)]] += 1
            return made

    def _find_damage(self, numbers: _Numbers, make: Callable[[_Numbers], dict[str, Tensor]]) -> bool:
        found = False
        for start in range(len(numbers)):
            shard = self._shard_of(int(numbers[start]))
            if shard in self._damaged:
                continue
            try:
                make(numbers[start : start + 1])
            except _DAMAGE as error:
                found = True
                with self._lock:
                    self._damaged[shard] = str(error)
        return found

    def _sound(self, number: int) -> int:
        shard = self._shard_of(number)
        if shard not in self._damaged:
            return number
        count = len(self._split.shards)
        others = (i % count for i in range(shard + 1, shard + count))
        heir = next((other for other in others if other not in self._damaged), None)
        if heir is None:
            raise CorpusError(f"every shard of split {self._split.name!r} is damaged: {self._damaged[shard]}")
        offset = (int(self._place[number]) - int(self._starts[shard])) % self._split.counts[heir]
        return int(self._split.by_shard[int(self._starts[heir]) + offset])

    def _shard_of(self, number: int) -> int:
        return int(np.searchsorted(self._starts, self._place[number], side="right")) - 1
