"""From finished units to a corpus: its index, its quarantine, its classes and the account of every file.

Units are built on their own, so equal files in two units are only seen here: the record of the earlier unit stays, the
later one's row becomes a `duplicate`. Its bytes stay in its shard, which belongs to the unit; the index does not name
them, and readers go by the index. A plain WebDataset reader of the tars would see such a record twice: `summary` says
how many there are (`duplicates_in_shards`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from datasets.config import ShardConfig
from datasets.errors import IngestError
from datasets.ingest.build import SPLITS, UnitResult, duplicate_row
from datasets.ingest.plan import FORMAT_VERSION
from datasets.ingest.rows import (
    INDEX_SCHEMA,
    QUARANTINE_SCHEMA,
    QuarantineRow,
    RecordRow,
    record_table,
    table_of,
    to_parquet,
)
from datasets.sources.listing import BY_RULE, Listing
from vqgan_core.config import canonical_json

__all__ = ["Finished", "finish"]

CORPUS_SCHEMA = INDEX_SCHEMA.set(INDEX_SCHEMA.get_field_index("label"), pa.field("label", pa.int64()))
"""A unit's index with the class number for its name; -1 where a corpus has no classes."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A corpus' own files and its summary; the shards are the units' parts."""

    files: dict[str, bytes]
    summary: dict[str, Any]


def finish(
    listing: Listing, results: Iterable[UnitResult], config: ShardConfig, locations: Mapping[str, str] | None = None
) -> Finished:
    """Join units into a corpus.

    Args:
        listing: what the source has.
        results: all units of that listing, in any order.
        config: the shard stage's config.
        locations: path of a shard relative to the artifact, by the shard's name; None: the name itself.

    Raises:
        IngestError: too much of the source cannot be used, or no image is left for training.
    """
    ordered = sorted(results, key=lambda result: result.index)
    records, duplicates = _distinct(ordered)
    faults = [row for result in ordered for row in result.quarantined]
    skipped = [QuarantineRow(item.path, None, item.reason, item.detail) for item in listing.skipped]
    quarantine = sorted([*faults, *duplicates, *skipped], key=lambda row: (row.path, row.reason, row.detail))
    listed = len(listing) + len(listing.skipped)
    assert listed == len(records) + len(quarantine), f"{listed} listed, {len(records)} kept, {len(quarantine)} left out"
    _refuse_bad(records, quarantine, config)
    # A class whose every image is unusable is none: nobody could learn or sample it.
    used = {row.label for row in records}
    classes = [name for name in listing.class_names if name in used]
    numbers = {name: number for number, name in enumerate(classes)}
    moved = [replace(row, shard=(locations or {}).get(row.shard, row.shard)) for row in records]
    summary = _summary(records, quarantine, classes, config) | {
        "duplicates_in_shards": len(duplicates),
        "classes_without_images": [name for name in listing.class_names if name not in used],
    }
    files = {
        "index.parquet": to_parquet(_index(moved, numbers, planes=bool(config.pairs)), _about(config)),
        "quarantine.parquet": to_parquet(table_of(quarantine, QUARANTINE_SCHEMA)),
        "classes.json": canonical_json({"classes": classes}),
    }
    return Finished(files, summary)


def _distinct(results: Sequence[UnitResult]) -> tuple[list[RecordRow], list[QuarantineRow]]:
    """Records by key, the first unit's first; the others as rows of the quarantine."""
    first: dict[str, RecordRow] = {}
    duplicates = []
    for row in (row for result in results for row in result.records):
        kept = first.setdefault(row.key, row)
        if kept is not row:
            duplicates.append(
                duplicate_row(row.source_path, row.source_sha256, row.label, kept.source_path, kept.label)
            )
    return [first[key] for key in sorted(first)], duplicates


def _refuse_bad(records: Sequence[RecordRow], quarantine: Sequence[QuarantineRow], config: ShardConfig) -> None:
    counts = Counter(row.reason for row in quarantine)
    bad = sum(count for reason, count in counts.items() if reason not in BY_RULE and reason != "duplicate")
    total = bad + counts["duplicate"] + len(records)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    example = next((row for row in quarantine if row.reason not in BY_RULE and row.reason != "duplicate"), None)
    instance = f"; for example {example.path}: {example.detail}" if example is not None else ""
    if not records:
        raise IngestError(f"no image of the source can be used ({reasons}{instance})")
    if bad > config.max_bad_fraction * total:
        raise IngestError(
            f"{bad} of {total} images cannot be used, more than max_bad_fraction {config.max_bad_fraction:g} allows "
            f"({reasons}{instance})"
        )
    if not any(row.split == "train" for row in records):
        raise IngestError(
            f"all {len(records)} usable images fell into validation: add images, or lower validation_fraction "
            f"{config.validation_fraction:g}"
        )


def _index(records: Sequence[RecordRow], numbers: Mapping[str, int], *, planes: bool) -> pa.Table:
    table = record_table(records, planes=planes)
    labels = [-1 if row.label is None else numbers[row.label] for row in records]
    return table.set_column(
        table.schema.get_field_index("label"), CORPUS_SCHEMA.field("label"), pa.array(labels, pa.int64())
    )


def _about(config: ShardConfig) -> dict[str, str]:
    """What a reader must know of the images and what is kept beside them, in the index' own metadata."""
    about: dict[str, Any] = {name: getattr(config, name) for name in ("size_px", "channels", "crop", "format")}
    if config.pairs:
        about["planes"] = {name: pair.holds.model_dump(mode="json") for name, pair in sorted(config.pairs.items())}
    return {"tessera.corpus": canonical_json(about | {"format_version": FORMAT_VERSION}).decode()}


def _summary(
    records: Sequence[RecordRow], quarantine: Sequence[QuarantineRow], classes: Sequence[str], config: ShardConfig
) -> dict[str, Any]:
    reasons = Counter(row.reason for row in quarantine)
    duplicates = reasons.pop("duplicate", 0)
    of_class = Counter(row.label for row in records)
    return {
        "listed": len(records) + len(quarantine),
        "kept": len(records),
        "quarantined": sum(reasons.values()),
        "duplicates": duplicates,
        "reasons": dict(sorted(reasons.items())),
        "splits": {split: sum(row.split == split for row in records) for split in SPLITS},
        "classes": {name: of_class[name] for name in classes},
        "num_classes": len(classes),
        "num_shards": len({row.shard for row in records}),
        "image_bytes": sum(row.bytes for row in records),
        "size_px": config.size_px,
        "channels": config.channels,
    }
