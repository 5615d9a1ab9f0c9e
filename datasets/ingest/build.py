"""From a unit to its shards: read, decode in child processes, split, pack.

A shard is a WebDataset tar: for each record KEY.png (or .jpg, .webp), KEY.NAME.png for whatever is kept beside it, and
KEY.json with the label and where the image came from, ordered by key. The label there is the class' name: its number
depends on which classes the whole corpus has, and a shard outlives the corpus that it was made for. KEY are the first
32 hex digits of the sha256 of the source file.

A record's split is a function of its key alone, so an image never changes its split and equal files never straddle.
Equal files: the first in the unit's order is kept, the others are quarantined as `duplicate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from datasets.config import ShardConfig
from datasets.ingest.canonical import CanonicalImage, Recipe
from datasets.ingest.decode_pool import Call, DecodePool
from datasets.ingest.plan import Unit
from datasets.ingest.rows import (
    ENTRY_SCHEMA,
    QUARANTINE_SCHEMA,
    PlaneRow,
    QuarantineRow,
    RecordRow,
    TableNames,
    from_parquet,
    record_schema,
    to_parquet,
)
from datasets.ingest.tar import Member, write_tar
from datasets.ingest.unusable import Unusable
from datasets.prefetch import mapped_ahead
from datasets.sources.folder import Folder
from datasets.sources.listing import Source, SourceEntry
from datasets.sources.pairs import PairedFolder
from datasets.sources.sidecars import SIDECAR, parse_sidecar
from vqgan_core.config import canonical_json

__all__ = [
    "SPLITS",
    "Outcome",
    "UnitResult",
    "build_unit",
    "duplicate_row",
    "near_duplicate_row",
    "pack_unit",
    "split_of",
]

SPLITS = ("train", "val")
_EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
_NUM_READERS = 8
_IN_FLIGHT_A_PROCESS = 16  # bounds memory: so many raw images wait for each decoder


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What a unit became. `files` holds its shards; a unit without a usable image has none."""

    unit: Unit
    files: dict[str, bytes]
    records: tuple[RecordRow, ...]
    quarantined: tuple[QuarantineRow, ...]

    def to_files(self) -> dict[str, bytes]:
        """Shards and tables, to be stored as one part."""
        names = TableNames(self.unit.index)
        return {
            **self.files,
            names.records: to_parquet((row.to_row() for row in self.records), self._schema()),
            names.quarantine: to_parquet((row.to_row() for row in self.quarantined), QUARANTINE_SCHEMA),
            names.entries: to_parquet((entry.to_table_row() for entry in self.unit.entries), ENTRY_SCHEMA),
        }

    def _schema(self) -> pa.Schema:
        has_hashes = any(row.perceptual_hash is not None for row in self.records)
        return record_schema(planes=any(row.planes for row in self.records), hashes=has_hashes)

    @classmethod
    def from_files(cls, unit: Unit, read: Callable[[str], bytes]) -> UnitResult:
        """The result of a stored unit, without its shards' bytes: finishing a corpus needs only the tables."""
        names = TableNames(unit.index)
        return cls(
            unit,
            {},
            tuple(from_parquet(read(names.records), RecordRow)),
            tuple(from_parquet(read(names.quarantine), QuarantineRow)),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry."""

    entry: SourceEntry
    sha256: str
    """Of the source file."""
    image: CanonicalImage | Unusable
    metadata: dict[str, Any] | None
    """What its sidecar holds."""

    @property
    def key(self) -> str:
        """Of its record."""
        return self.sha256[:32]


@dataclass(frozen=True, slots=True)
class _Kept:
    outcome: Outcome
    image: CanonicalImage


@dataclass(frozen=True, slots=True)
class _Read:
    entry: SourceEntry
    sha256: str
    decoding: Call
    metadata: dict[str, Any] | None


def build_unit(
    unit: Unit,
    source: Source,
    config: ShardConfig,
    pool: DecodePool,
    progress: Callable[[int], None] | None = None,
) -> UnitResult:
    """Ingest one unit; the result's bytes do not depend on processes, threads or time.

    Args:
        unit: what to ingest.
        source: where its entries are read from.
        config: the shard stage's config.
        pool: child processes that decode.
        progress: told the number of images done.

    Raises:
        SourceError: an image cannot be read, or changed since it was listed.
    """
    reads = _decoded(unit, source, Recipe.of(config), pool)
    outcomes = (Outcome(read.entry, read.sha256, pool.outcome(read.decoding), read.metadata) for read in reads)
    return pack_unit(unit, outcomes, config, progress)


def pack_unit(
    unit: Unit, outcomes: Iterable[Outcome], config: ShardConfig, progress: Callable[[int], None] | None = None
) -> UnitResult:
    """Pack what became of a unit's entries, in their order: of equal files the first."""
    kept: dict[str, _Kept] = {}
    quarantined: list[QuarantineRow] = []
    for done, outcome in enumerate(outcomes, start=1):
        entry, image = outcome.entry, outcome.image
        if isinstance(image, Unusable):
            quarantined.append(QuarantineRow(entry.path, outcome.sha256, image.reason, image.detail))
        elif outcome.key in kept:
            first = kept[outcome.key].outcome.entry
            quarantined.append(duplicate_row(entry.path, outcome.sha256, entry.label, first.path, first.label))
        else:
            kept[outcome.key] = _Kept(outcome, image)
        if progress is not None:
            progress(done)
    files, records = _pack(unit.index, [kept[key] for key in sorted(kept)], config)
    return UnitResult(unit, files, tuple(records), tuple(sorted(quarantined, key=lambda r: r.path)))


def split_of(key: str, validation_fraction: float) -> str:
    """The split of a record: the hash of its key as a number in [0, 1) against the fraction."""
    drawn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return "val" if drawn < validation_fraction * 2**64 else "train"


def duplicate_row(path: str, sha256: str, label: str | None, kept_path: str, kept_label: str | None) -> QuarantineRow:
    """The row of a file that has the bytes of another."""
    detail = f"same bytes as {kept_path}{_conflict(label, kept_label)}"
    return QuarantineRow(path, sha256, "duplicate", detail)


def near_duplicate_row(record: RecordRow, distance: int, kept: RecordRow) -> QuarantineRow:
    """The row of an image that looks like another."""
    detail = f"{distance} of 64 bits away from {kept.source_path}{_conflict(record.label, kept.label)}"
    return QuarantineRow(record.source_path, record.source_sha256, "near_duplicate", detail)


def _conflict(label: str | None, kept_label: str | None) -> str:
    return "" if label == kept_label else f"; its label is {label!r}, the kept one's {kept_label!r}"


def _decoded(unit: Unit, source: Source, recipe: Recipe, pool: DecodePool) -> Iterator[_Read]:
    """Read ahead in threads and decode ahead in processes, bounded, in the unit's order."""

    def read(entry: SourceEntry) -> _Read:
        data, partners = source.read(entry), _partners(entry, source)
        sidecar = partners.pop(SIDECAR, None)
        metadata = None if sidecar is None else parse_sidecar(sidecar[1])
        decoding = pool.decode(data, entry.path, recipe, partners)
        return _Read(entry, hashlib.sha256(data).hexdigest(), decoding, metadata)

    in_flight = _IN_FLIGHT_A_PROCESS * pool.num_processes
    return mapped_ahead(read, unit.entries, num_threads=_NUM_READERS, ahead=in_flight)


def _partners(entry: SourceEntry, source: Source) -> dict[str, tuple[str, bytes]]:
    """Path and content of an image's second files."""
    if not entry.partners:
        return {}
    assert isinstance(source, (Folder, PairedFolder)), "no other source has second files"
    return {partner.name: (partner.path, source.read_partner(partner)) for partner in entry.partners}


def _pack(index: int, kept: list[_Kept], config: ShardConfig) -> tuple[dict[str, bytes], list[RecordRow]]:
    files: dict[str, bytes] = {}
    rows: list[RecordRow] = []
    for split in SPLITS:
        chosen = [item for item in kept if split_of(item.outcome.key, config.validation_fraction) == split]
        if not chosen:
            continue
        name = f"{split}-{index:06d}.tar"
        files[name], written = write_tar(member for item in chosen for member in _members(item, config))
        members = iter(written)
        for item in chosen:
            image, planes, _ = next(members), [next(members) for _ in item.image.planes], next(members)
            rows.append(_row(item, split, name, image, planes))
    return files, rows


def _members(item: _Kept, config: ShardConfig) -> Iterator[tuple[str, bytes]]:
    """The image, what is kept beside it, and what is said of it."""
    outcome, key = item.outcome, item.outcome.key
    about: dict[str, Any] = {
        "label": outcome.entry.label,
        "source_path": outcome.entry.path,
        "source_sha256": outcome.sha256,
        "width": item.image.width,
        "height": item.image.height,
    }
    if outcome.metadata is not None:
        about["metadata"] = outcome.metadata
    yield f"{key}.{_EXTENSIONS[config.format]}", item.image.data
    for name, data in item.image.planes:
        yield f"{key}.{name}.png", data
    yield f"{key}.json", canonical_json(about)


def _row(item: _Kept, split: str, shard: str, member: Member, planes: list[Member]) -> RecordRow:
    image = item.image
    kept = zip(image.planes, planes, strict=True)
    return RecordRow(
        key=item.outcome.key,
        split=split,
        shard=shard,
        offset=member.offset,
        bytes=len(image.data),
        sha256=hashlib.sha256(image.data).hexdigest(),
        label=item.outcome.entry.label,
        width=image.width,
        height=image.height,
        source_path=item.outcome.entry.path,
        source_sha256=item.outcome.sha256,
        planes=tuple(
            PlaneRow(name, plane.offset, len(data), hashlib.sha256(data).hexdigest()) for (name, data), plane in kept
        ),
        perceptual_hash=image.perceptual_hash,
    )
