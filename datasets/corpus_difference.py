"""What two corpora have in common, and what only one of them has: by the content of records, not by their shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datasets.corpus import Corpus
from datasets.store import Artifact

__all__ = ["CorpusDifference", "corpus_difference"]


@dataclass(frozen=True)
class CorpusDifference:
    """Source paths of records, sorted; numbers of shards."""

    added: list[str]
    """Of records that only the second corpus has."""
    removed: list[str]
    """Of records that only the first has."""
    relabelled: list[str]
    """In the second corpus, of records of another class than in the first."""
    moved: list[str]
    """In the second corpus, of records whose source file had another path in the first."""
    resplit: list[str]
    """Of records that are in another split: only where validation_fraction differs."""
    num_common: int
    """Records that both have."""
    num_shared_shards: int
    num_shards: tuple[int, int]
    classes_added: list[str]
    classes_removed: list[str]


def corpus_difference(first: Artifact, second: Artifact) -> CorpusDifference:
    """Compare two corpora.

    Raises:
        CorpusError: one of them is damaged.
    """
    old, new = Corpus.open(first), Corpus.open(second)
    one, two = ({row["key"]: row for row in _rows(corpus)} for corpus in (old, new))
    common = one.keys() & two.keys()
    shards = [{row["shard"] for row in rows.values()} for rows in (one, two)]

    def differing(field: str) -> list[str]:
        return sorted(two[key]["source_path"] for key in common if one[key][field] != two[key][field])

    return CorpusDifference(
        added=sorted(two[key]["source_path"] for key in two.keys() - common),
        removed=sorted(one[key]["source_path"] for key in one.keys() - common),
        relabelled=differing("label"),
        moved=differing("source_path"),
        resplit=differing("split"),
        num_common=len(common),
        num_shared_shards=len(shards[0] & shards[1]),
        num_shards=(len(shards[0]), len(shards[1])),
        classes_added=sorted(set(new.class_names) - set(old.class_names)),
        classes_removed=sorted(set(old.class_names) - set(new.class_names)),
    )


def _rows(corpus: Corpus) -> Iterator[dict[str, Any]]:
    """Records with the name of their class: its number may differ."""
    names = pa.array(corpus.class_names, pa.string())
    for table in corpus.tables().values():
        labels = pc.take(names, pc.if_else(pc.greater_equal(table["label"], 0), table["label"], None))
        columns = table.select(["key", "split", "shard", "source_path"]).append_column("label", labels)
        yield from columns.to_pylist()
