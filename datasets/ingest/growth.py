"""Growth by generations: what of a listing a parent corpus has already, what is new, and what is gone.

An image is known by its path, size, checksum and label, so nothing has to be read to compare. A unit of the parent
stays as it is, byte for byte; what of it the source does not have any more, or has in another form, is dead: a
tombstone, and no record. A file that comes back as it was is alive again. Only the rest is planned as new units.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import NamedTuple

from datasets.ingest.build import UnitResult, duplicate_row
from datasets.ingest.plan import Unit
from datasets.ingest.rows import QuarantineRow, RecordRow
from datasets.sorting import Row, SortedRows
from datasets.sources.listing import Listing, SourceEntry

__all__ = ["Growth", "compare", "survivors"]

_LISTED = -1


@dataclass(frozen=True)
class Growth:
    """How a listing departs from the units of a parent corpus."""

    new: SortedRows
    """Rows of the entries that no unit has."""
    dead: dict[int, set[str]]
    """Paths that are not in the listing as they were, by unit."""
    tombstones: SortedRows
    """The same as rows: path, unit, reason (deleted, changed, relabelled), checksum."""
    num_known: int
    """Entries that some unit has."""

    def entries(self) -> Iterator[SourceEntry]:
        """The entries that no unit has."""
        return map(SourceEntry.from_row, self.new)


def compare(listing: Listing, units: Iterable[Unit]) -> Growth:
    """Compare a listing with all units of a parent corpus; both may be larger than memory."""
    known = SortedRows(2, ((entry.path, unit.index, *entry.to_row()) for unit in units for entry in unit.entries))
    listed = ((entry.path, _LISTED, *entry.to_row()) for entry in listing)
    growth = Growth(SortedRows(), defaultdict(set), SortedRows(2), 0)
    num_known = 0
    for _, rows in itertools.groupby(heapq.merge(listed, known, key=itemgetter(0, 1)), key=itemgetter(0)):
        num_known += _judge(list(rows), growth)
    return replace(growth, num_known=num_known)


def survivors(result: UnitResult, dead: set[str]) -> UnitResult:
    """A unit's result without what is dead. The record of a file that is gone passes to one of the same bytes."""
    alive = [row for row in result.quarantined if row.path not in dead]
    if not dead:
        return result
    twins: dict[str | None, list[QuarantineRow]] = defaultdict(list)
    for row in alive:
        if row.reason == "duplicate":
            twins[row.sha256].append(row)
    told = {entry.path: _Told.of(entry) for entry in result.unit.entries}
    records, quarantined = [], {row.path: row for row in alive}
    for record in result.records:
        if record.source_path not in dead:
            records.append(record)
        elif heir := _inherit(record, twins[record.source_sha256], told, quarantined):
            records.append(heir)
    return replace(result, records=tuple(records), quarantined=tuple(quarantined.values()))


def _judge(rows: list[Row], growth: Growth) -> bool:
    """All that is known of one path: in the listing, and in units. Whether a unit has the listing's entry."""
    listed = SourceEntry.from_row(rows.pop(0)[2:]) if rows[0][1] == _LISTED else None
    found = False
    for path, unit, *row in rows:
        entry = SourceEntry.from_row(row)
        if listed is not None and entry.identity == listed.identity:
            found = True
            continue
        relabelled = listed is not None and entry.checksum == listed.checksum and entry.label != listed.label
        reason = "deleted" if listed is None else "relabelled" if relabelled else "changed"
        growth.dead[unit].add(path)
        growth.tombstones.add((path, unit, reason, entry.checksum))
    if listed is not None and not found:
        growth.new.add(listed.to_row())
    return found


class _Told(NamedTuple):
    """What is said of an image besides its own bytes."""

    label: str | None
    partners: tuple[tuple[str, str], ...]
    """Name and checksum of each second file."""

    @classmethod
    def of(cls, entry: SourceEntry) -> _Told:
        """What a listing says."""
        return cls(entry.label, tuple((partner.name, partner.checksum) for partner in entry.partners))


def _inherit(
    record: RecordRow, twins: list[QuarantineRow], told: dict[str, _Told], quarantined: dict[str, QuarantineRow]
) -> RecordRow | None:
    """Pass a dead file's record on. Label and planes are in the shard and in token files: an heir has the same."""
    heir = next((row for row in twins if told[row.path] == told[record.source_path]), None)
    for twin in twins:
        if heir is None:
            detail = f"same bytes as {record.source_path}, which is gone and had the label {record.label!r}"
            quarantined[twin.path] = replace(twin, detail=f"{detail}: a compacted corpus has it")
        else:
            quarantined[twin.path] = duplicate_row(
                twin.path, record.source_sha256, told[twin.path].label, heir.path, record.label
            )
    if heir is None:
        return None
    del quarantined[heir.path]
    return replace(record, source_path=heir.path)
