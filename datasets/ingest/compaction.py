"""A corpus made anew out of its own shards: what a fresh ingest of the same listing would give, byte for byte.

Nothing of the source is read. The images are in the shards in their canonical form, and everything else that a unit's
bytes depend on is in the units' tables: which entry became which record, and why another became none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from datasets.corpus_split import read_about
from datasets.errors import CorpusError
from datasets.files import read_member
from datasets.ingest.build import Outcome, UnitResult
from datasets.ingest.canonical import CanonicalImage
from datasets.ingest.parent import Parent
from datasets.ingest.plan import Unit
from datasets.ingest.rows import QuarantineRow, RecordRow, from_parquet, read_table
from datasets.ingest.unusable import Unusable
from datasets.prefetch import mapped_ahead
from datasets.sources.listing import Listing, Skipped, SourceEntry
from datasets.sources.sidecars import SIDECAR
from datasets.store import Artifact

__all__ = ["StoredCorpus"]

_NUM_READERS = 8
_UNITS_AT_HAND = 16


class StoredCorpus:
    """The listing and the outcomes of a grown corpus."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the lists of its units.

        Raises:
            CorpusError: it was made before corpora could grow, or its source has an order of classes of its own.
        """
        self._artifact, self._parent = artifact, Parent(artifact)
        dead: dict[int, set[str]] = defaultdict(set)
        for row in read_table(artifact.read("tombstones.parquet")).to_pylist():
            dead[row["unit"]].add(row["path"])
        self._unit_of: dict[str, int] = {}
        self.listing = Listing(self._items(dead), origin="the corpus")
        source = next(ref for ref in artifact.manifest.inputs if ref.kind == "source")
        if self.listing.digest != source.digest:
            raise CorpusError(
                f"corpus {artifact.manifest.fingerprint[:12]} cannot be compacted: its source has an order of classes "
                "of its own; shard it anew with shard.parent=null"
            )
        self._stored = lru_cache(_UNITS_AT_HAND)(self._read_unit)

    def outcomes(self, unit: Unit) -> Iterator[Outcome]:
        """What became of the entries of a unit of the new plan, images out of the old shards."""
        return mapped_ahead(self._outcome, unit.entries, num_threads=_NUM_READERS, ahead=4 * _NUM_READERS)

    def _items(self, dead: dict[int, set[str]]) -> Iterator[SourceEntry | Skipped]:
        for unit in self._parent.units():
            for entry in unit.entries:
                if entry.path not in dead[unit.index]:
                    self._unit_of[entry.path] = unit.index
                    yield entry
        for row in from_parquet(self._artifact.read("quarantine.parquet"), QuarantineRow):
            if row.sha256 is None:  # what was never read was never an entry
                yield Skipped(row.path, row.reason, row.detail, row.checksum)

    def _outcome(self, entry: SourceEntry) -> Outcome:
        stored = self._stored(self._unit_of[entry.path])
        record = stored.by_path.get(entry.path)
        if record is None:
            row = stored.left_out[entry.path]
            assert row.sha256 is not None, "an entry has been read"
            if row.reason != "duplicate":
                return Outcome(entry, row.sha256, Unusable(row.reason, row.detail), None)
            record = stored.by_key[row.sha256[:32]]
            _require_equal_partners(entry, stored.entries[record.source_path])
        image, metadata = self._image(record, has_sidecar=any(p.name == SIDECAR for p in entry.partners))
        return Outcome(entry, record.source_sha256, image, metadata)

    def _image(self, record: RecordRow, *, has_sidecar: bool) -> tuple[CanonicalImage, dict[str, Any] | None]:
        row = record.to_mapping()
        planes = tuple((plane["name"], read_member(self._artifact, record.shard, plane)) for plane in row["planes"])
        data = read_member(self._artifact, record.shard, row)
        image = CanonicalImage(data, record.width, record.height, planes, record.perceptual_hash)
        return image, read_about(self._artifact, row)["metadata"] if has_sidecar else None

    def _read_unit(self, index: int) -> _Stored:
        return _Stored(self._parent.whole(index))


class _Stored:
    """A unit's tables, for looking up."""

    def __init__(self, result: UnitResult) -> None:
        self.entries = {entry.path: entry for entry in result.unit.entries}
        self.by_path = {record.source_path: record for record in result.records}
        self.by_key = {record.key: record for record in result.records}
        self.left_out = {row.path: row for row in result.quarantined}


def _require_equal_partners(entry: SourceEntry, kept: SourceEntry) -> None:
    theirs, ours = ([(p.name, p.checksum) for p in one.partners] for one in (entry, kept))
    if theirs != ours:
        raise CorpusError(
            f"{entry.path} has the bytes of {kept.path} but other second files, which no shard has: shard the source "
            "anew with shard.parent=null"
        )
