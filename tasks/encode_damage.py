"""What encoding does about shards that cannot be read: it ends, or it leaves their records out and says how many.

A record is left out in all views: a token dataset has every record in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from datasets.corpus import Corpus
from datasets.errors import CorpusError
from datasets.store import CorruptObject, ObjectMissing
from tasks.code_counts import Unit

__all__ = ["DAMAGE", "Damage", "lost_shards"]

DAMAGE = (CorpusError, CorruptObject, ObjectMissing)
"""What reading a damaged shard raises."""


@dataclass(frozen=True)
class Damage:
    """In place of a part: why there is none."""

    reason: str


_Unit = TypeVar("_Unit", bound=Unit)


def lost_shards(
    made: Mapping[_Unit, object], corpus: Corpus, splits: Sequence[str], say: Callable[[str], None]
) -> dict[str, int]:
    """Records of each damaged shard.

    Args:
        made: the part of each unit, or `Damage`.
        corpus: whose shards they are.
        splits: those that the corpus has.
        say: told of each shard.

    Raises:
        CorpusError: nothing is left of a split.
    """
    reasons = {(unit.split, unit.shard): part.reason for unit, part in made.items() if isinstance(part, Damage)}
    for split in splits:
        sound = [shard for shard in corpus.shards(split) if (split, shard) not in reasons]
        if not sound:
            reason = next(reason for (of, _), reason in reasons.items() if of == split)
            raise CorpusError(f"every shard of split {split!r} is damaged: {reason}")
    lost = {}
    for (split, shard), reason in sorted(reasons.items()):
        lost[shard] = len(corpus.shard_records(split, shard))
        say(f"encode: {lost[shard]} records of {shard} are left out: {reason}")
    return lost
