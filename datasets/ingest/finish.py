"""From finished units to a corpus: its index, its quarantine, its classes and the account of every file.

Units are built on their own, so equal files in two units are only seen here: the record of the earlier unit stays, the
later one's row becomes a `duplicate`. Its bytes stay in its shard, which belongs to the unit; the index does not name
them, and readers go by the index. A plain WebDataset reader of the tars would see such a record twice: `summary` says
how many there are (`duplicates_in_shards`).

Near duplicates, where they are looked for, are seen here, too: of images that look alike the one of the earliest unit
stays (within a unit, that of the smallest key), so that what later generations bring never takes away a record.

Rows of all units are sorted on disk and written from there, so that memory does not grow with the corpus.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from datasets.config import ShardConfig
from datasets.errors import IngestError
from datasets.ingest.build import SPLITS, UnitResult, duplicate_row, near_duplicate_row
from datasets.ingest.near_duplicates import left_out
from datasets.ingest.plan import FORMAT_VERSION
from datasets.ingest.rows import (
    INDEX_SCHEMA,
    QUARANTINE_SCHEMA,
    TOMBSTONE_SCHEMA,
    QuarantineRow,
    RecordRow,
    record_schema,
    to_parquet,
)
from datasets.sorting import Row, SortedRows
from datasets.sources.listing import BY_RULE, Listing
from vqgan_core.config import canonical_json

__all__ = ["Finished", "Parentage", "finish"]

CORPUS_SCHEMA = INDEX_SCHEMA.set(INDEX_SCHEMA.get_field_index("label"), pa.field("label", pa.int64()))
"""A unit's index with the class number for its name; -1 where a corpus has no classes."""
CORPUS_QUARANTINE_SCHEMA = QUARANTINE_SCHEMA.append(pa.field("checksum", pa.string()))
"""A unit's quarantine with the checksum of every file, also of those that were left out for their names."""
_NEAR = "near_duplicate"
_DUPLICATES = ("duplicate", _NEAR)


@dataclass(frozen=True, slots=True)
class Finished:
    """A corpus' own files and its summary; the shards are the units' parts."""

    files: dict[str, bytes]
    summary: dict[str, Any]


@dataclass(frozen=True)
class Parentage:
    """What a grown corpus takes over from its parent."""

    class_names: Sequence[str]
    """They keep their numbers, whether or not an image of them is left; new classes come behind them."""
    generations: Sequence[Mapping[str, int]]
    """Of the parent: first_unit and num_classes of each."""
    first_unit: int
    """Number of the first unit that the parent does not have."""
    tombstones: SortedRows


def finish(
    listing: Listing,
    results: Iterable[UnitResult],
    config: ShardConfig,
    locations: Mapping[str, str] | None = None,
    parentage: Parentage | None = None,
) -> Finished:
    """Join units into a corpus.

    Args:
        listing: what the source has.
        results: all units of that listing, in any order; of a parent's units what survives of them.
        config: the shard stage's config.
        locations: path of a shard relative to the artifact, by the shard's name; None: the name itself.
        parentage: of a corpus that has grown from another.

    Raises:
        IngestError: too much of the source cannot be used, or no image is left for training.
    """
    near = config.near_duplicates
    account = _Account(listing, results, None if near is None else near.max_distance)
    account.refuse_bad(config)
    classes = list(parentage.class_names) if parentage is not None else []
    # A class whose every image is unusable is none: nobody could learn or sample it.
    classes += [name for name in listing.class_names if name in account.labels and name not in classes]
    about: dict[str, Any] = {name: getattr(config, name) for name in ("size_px", "channels", "crop", "format")}
    if config.pairs:
        about["planes"] = {name: pair.holds.model_dump(mode="json") for name, pair in sorted(config.pairs.items())}
    files = {
        "quarantine.parquet": to_parquet(account.quarantine_rows(), CORPUS_QUARANTINE_SCHEMA),
        "classes.json": canonical_json({"classes": classes}),
    }
    summary = account.summary(classes) | {"size_px": config.size_px, "channels": config.channels}
    summary["classes_without_images"] = [name for name in listing.class_names if name not in account.labels]
    if parentage is not None:
        generation = {"first_unit": parentage.first_unit, "num_classes": len(classes)}
        about["generations"] = [*parentage.generations, generation]
        files["tombstones.parquet"] = to_parquet(parentage.tombstones, TOMBSTONE_SCHEMA)
        summary |= {"generation": len(about["generations"]), "tombstones": len(parentage.tombstones)}
    metadata = {"tessera.corpus": canonical_json(about | {"format_version": FORMAT_VERSION}).decode()}
    schema = record_schema(CORPUS_SCHEMA, planes=bool(config.pairs))
    files["index.parquet"] = to_parquet(account.index_rows(classes, locations or {}), schema, metadata)
    return Finished(files, summary)


class _Account:
    """Every file of a listing: a record, or a row of the quarantine."""

    def __init__(self, listing: Listing, results: Iterable[UnitResult], max_distance: int | None) -> None:
        """Take all rows; those of one key are seen together, the first unit's first.

        Args:
            listing: what the source has.
            results: all units.
            max_distance: bits in which the hashes of near duplicates differ at most; None: there are none.
        """
        self._records, self._quarantine = SortedRows(num_keys=2), SortedRows(num_keys=3)
        self._reasons: Counter[str] = Counter()
        for result in results:
            for record in result.records:
                self._records.add((record.key, result.unit.index, *record.to_row()))
            for row in result.quarantined:
                self._leave_out(row)
        for item in listing.skipped:
            self._leave_out(QuarantineRow(item.path, None, item.reason, item.detail, item.checksum))
        self._tally = _Tally()
        self._duplicates_in_shards = 0
        self._near = {} if max_distance is None else self._near_duplicates(max_distance)
        for number, (kept, *others) in enumerate(self._by_key()):
            if number in self._near:
                self._duplicates_in_shards += 1
                self._leave_out(self._near[number])
            else:
                self._tally.add(kept)
            for other in others:
                self._duplicates_in_shards += 1
                self._leave_out(
                    duplicate_row(other.source_path, other.source_sha256, other.label, kept.source_path, kept.label)
                )
        listed, left_out = len(listing) + listing.num_skipped, len(self._quarantine)
        assert listed == self._tally.kept + left_out, f"{listed} listed, {self._tally.kept} kept, {left_out} left out"

    @property
    def labels(self) -> Counter[str | None]:
        """Records of each label."""
        return self._tally.labels

    def refuse_bad(self, config: ShardConfig) -> None:
        """Refuse a source of which too much is unusable.

        Raises:
            IngestError: it is, or no image is left for training.
        """
        kept = self._tally.kept
        bad = sum(count for reason, count in self._reasons.items() if _is_fault(reason))
        total = bad + self._num_duplicates + kept
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._reasons.most_common())
        example = next((row for row in self._quarantine if _is_fault(row[1])), None) if bad else None
        instance = f"; for example {example[0]}: {example[2]}" if example is not None else ""
        if not kept:
            raise IngestError(f"no image of the source can be used ({reasons}{instance})")
        if bad > config.max_bad_fraction * total:
            raise IngestError(
                f"{bad} of {total} images cannot be used, more than max_bad_fraction {config.max_bad_fraction:g} "
                f"allows ({reasons}{instance})"
            )
        if not self._tally.splits["train"]:
            raise IngestError(
                f"all {kept} usable images fell into validation: add images, or lower validation_fraction "
                f"{config.validation_fraction:g}"
            )

    def quarantine_rows(self) -> Iterator[tuple[Any, ...]]:
        """Rows of quarantine.parquet."""
        for path, reason, detail, sha256, listed in self._quarantine:
            yield path, sha256, reason, detail, listed if sha256 is None else f"sha256:{sha256}"

    def index_rows(self, classes: Sequence[str], locations: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
        """Rows of index.parquet: by key, with class numbers, and paths that lead to the shards."""
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
        label, shard = (CORPUS_SCHEMA.get_field_index(name) for name in ("label", "shard"))
        for number, (kept, *_) in enumerate(self._by_key()):
            if number in self._near:
                continue
            row = list(kept.to_row())
            row[label] = -1 if kept.label is None else numbers[kept.label]
            row[shard] = locations.get(kept.shard, kept.shard)
            yield tuple(row)

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """Counts."""
        reasons = {reason: count for reason, count in sorted(self._reasons.items()) if reason not in _DUPLICATES}
        return {
            "listed": self._tally.kept + len(self._quarantine),
            "kept": self._tally.kept,
            "quarantined": sum(reasons.values()),
            "duplicates": self._num_duplicates,
            "near_duplicates": self._reasons[_NEAR],
            "duplicates_in_shards": self._duplicates_in_shards,
            "reasons": reasons,
            "splits": {split: self._tally.splits[split] for split in SPLITS},
            "classes": {name: self.labels[name] for name in classes},
            "num_classes": len(classes),
            "num_shards": len(self._tally.shards),
            "image_bytes": self._tally.image_bytes,
        }

    @property
    def _num_duplicates(self) -> int:
        return sum(self._reasons[reason] for reason in _DUPLICATES)

    def _near_duplicates(self, max_distance: int) -> dict[int, QuarantineRow]:
        """Rows of the records that are left out for another one, by their number in the order of keys."""
        fields = np.dtype([("unit", np.int64), ("hash", np.uint64)])
        rows = np.fromiter(((row[1], row[-1]) for row in self._first_rows()), fields)
        ranked = np.argsort(rows["unit"], kind="stable")
        found = {
            int(ranked[rank]): (int(ranked[kept]), distance)
            for rank, (kept, distance) in left_out(rows["hash"][ranked], max_distance).items()
        }
        named = {*found, *(kept for kept, _ in found.values())}
        records = {
            number: RecordRow.from_row(row[2:]) for number, row in enumerate(self._first_rows()) if number in named
        }
        return {
            number: near_duplicate_row(records[number], distance, records[kept])
            for number, (kept, distance) in found.items()
        }

    def _first_rows(self) -> Iterator[Row]:
        """Of each key."""
        return (next(rows) for _, rows in itertools.groupby(self._records, key=itemgetter(0)))

    def _leave_out(self, row: QuarantineRow) -> None:
        self._quarantine.add((row.path, row.reason, row.detail, row.sha256, row.checksum))
        self._reasons[row.reason] += 1

    def _by_key(self) -> Iterator[Iterator[RecordRow]]:
        for _, rows in itertools.groupby(self._records, key=itemgetter(0)):
            yield (RecordRow.from_row(row[2:]) for row in rows)


@dataclass
class _Tally:
    """Counts over records."""

    kept: int = 0
    image_bytes: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    labels: Counter[str | None] = field(default_factory=Counter)
    shards: set[str] = field(default_factory=set)

    def add(self, record: RecordRow) -> None:
        """Count a record."""
        self.kept += 1
        self.image_bytes += record.bytes
        self.splits[record.split] += 1
        self.labels[record.label] += 1
        self.shards.add(record.shard)


def _is_fault(reason: str) -> bool:
    return reason not in BY_RULE and reason not in _DUPLICATES
