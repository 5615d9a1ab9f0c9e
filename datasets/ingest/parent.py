"""A published corpus as the parent of the next generation: its units, without one byte of its shards."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from datasets.errors import CorpusError
from datasets.ingest.build import UnitResult
from datasets.ingest.growth import Growth, survivors
from datasets.ingest.plan import Unit
from datasets.ingest.rows import TableNames, read_schema, read_table
from datasets.prefetch import mapped_ahead
from datasets.sources.listing import SourceEntry
from datasets.store import Artifact, FileEntry, Part
from datasets.store.manifest import Manifest

__all__ = ["Parent", "can_be_parent"]

_ENTRIES = re.compile(r"\.\./\.\./parts/(?P<kind>[^/]+)/(?P<key>[^/]+)/entries-(?P<index>\d+)\.parquet")
_NUM_READERS = 8


def can_be_parent(manifest: Manifest) -> bool:
    """Whether a corpus says what it was made from; those from before corpora could grow do not."""
    return any(_ENTRIES.fullmatch(entry.path) for entry in manifest.files)


class Parent:
    """The units of a corpus, by number."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the manifest's list of files, nothing else.

        Raises:
            CorpusError: it was made before corpora could grow.
        """
        if not can_be_parent(artifact.manifest):
            raise CorpusError(
                f"corpus {artifact.manifest.fingerprint[:12]} was made by a Tessera whose corpora cannot grow: set "
                "shard.parent=null to shard the whole source anew"
            )
        self._artifact = artifact
        folders: dict[str, list[FileEntry]] = defaultdict(list)
        for entry in artifact.manifest.files:
            folders[entry.path.rpartition("/")[0]].append(entry)
        found = [
            (_ENTRIES.fullmatch(entry.path), folders[entry.path.rpartition("/")[0]])
            for entry in artifact.manifest.files
        ]
        self.parts: dict[int, Part] = {
            int(match["index"]): Part(kind=match["kind"], key=match["key"], files=files)
            for match, files in found
            if match
        }
        """Each unit's files."""

    @property
    def next_index(self) -> int:
        """Number of the first unit of the next generation."""
        return max(self.parts) + 1

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """In the order of their numbers."""
        return tuple(json.loads(self._artifact.read("classes.json"))["classes"])

    @property
    def generations(self) -> Sequence[Mapping[str, int]]:
        """First unit and number of classes of each generation so far."""
        about = json.loads(read_schema(self._artifact.read("index.parquet")).metadata[b"tessera.corpus"])
        first = {"first_unit": 0, "num_classes": len(self.class_names)}
        found: Sequence[Mapping[str, int]] = about.get("generations", [first])
        return found

    def units(self) -> Iterator[Unit]:
        """All units with what they were made from."""
        return mapped_ahead(self._unit, sorted(self.parts), num_threads=_NUM_READERS, ahead=2 * _NUM_READERS)

    def results(self, growth: Growth) -> Iterator[UnitResult]:
        """What survives of each unit."""

        def read(index: int) -> UnitResult:
            dead = growth.dead.get(index, set())
            unit = self._unit(index) if dead else Unit(index, self.parts[index].key, ())
            return survivors(UnitResult.from_files(unit, lambda name: self._read(index, name)), dead)

        return mapped_ahead(read, sorted(self.parts), num_threads=_NUM_READERS, ahead=2 * _NUM_READERS)

    def whole(self, index: int) -> UnitResult:
        """All of a unit, with paths of shards that lead there from the artifact."""
        unit = self._unit(index)
        result = UnitResult.from_files(unit, lambda name: self._read(index, name))
        records = (replace(row, shard=self._path(index, row.shard)) for row in result.records)
        return replace(result, records=tuple(records))

    def _unit(self, index: int) -> Unit:
        rows = read_table(self._read(index, TableNames(index).entries)).to_pydict().values()
        return Unit(index, self.parts[index].key, tuple(map(SourceEntry.from_row, zip(*rows, strict=True))))

    def _read(self, index: int, name: str) -> bytes:
        return self._artifact.read(self._path(index, name))

    def _path(self, index: int, name: str) -> str:
        part = self.parts[index]
        return f"../../parts/{part.kind}/{part.key}/{name}"
