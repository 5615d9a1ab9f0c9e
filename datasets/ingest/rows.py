"""The two tables of a corpus: where each record is, and what became of everything else. Parquet, byte-deterministic."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.sorting import Row

__all__ = [
    "ENTRY_SCHEMA",
    "INDEX_SCHEMA",
    "PLANES_FIELD",
    "QUARANTINE_SCHEMA",
    "TOMBSTONE_SCHEMA",
    "PlaneRow",
    "QuarantineRow",
    "RecordRow",
    "TableNames",
    "from_parquet",
    "read_schema",
    "read_table",
    "record_schema",
    "to_parquet",
    "unit_of",
]


@dataclass(frozen=True, slots=True)
class PlaneRow:
    """What is kept beside an image: the bytes of the same shard that hold it."""

    name: str
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A record: its key, the bytes of a shard that hold its image, and where it came from."""

    key: str
    """First 32 hex digits of the source file's sha256."""
    split: str
    shard: str
    """Path of the tar, relative to the artifact."""
    offset: int
    bytes: int
    sha256: str
    """Of the stored image, so that a range of a shard can be verified."""
    label: str | None
    width: int
    height: int
    source_path: str
    source_sha256: str
    planes: tuple[PlaneRow, ...] = ()
    """By name; a table has this column where any record has any."""
    perceptual_hash: int | None = None
    """64 bits; a unit's table has this column where near duplicates are looked for."""

    def to_row(self) -> Row:
        """The fields in the order of the schema, planes and hash last."""
        *plain, planes, hashed = (getattr(self, name) for name in self.__slots__)
        return (*plain, tuple(astuple(plane) for plane in planes), hashed)

    def to_mapping(self) -> dict[str, Any]:
        """The fields by name, as a reader of the table gets them."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> RecordRow:
        """The record of a row."""
        *plain, planes, hashed = row
        return replace(cls(*plain), planes=tuple(PlaneRow(*plane) for plane in planes), perceptual_hash=hashed)


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Something that a source names and that is no record, and why."""

    path: str
    sha256: str | None
    reason: str
    detail: str
    checksum: str | None = None
    """As it was listed; the table of a unit, all of whose files were read, is without it."""

    def to_row(self) -> Row:
        """The fields in the order of the schema."""
        return tuple(getattr(self, name) for name in self.__slots__)


QUARANTINE_SCHEMA = pa.schema(
    [("path", pa.string()), ("sha256", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)
"""Of a unit. A corpus' own quarantine has a checksum of what was not read, too."""
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("label", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_path", pa.string()),
        ("source_sha256", pa.string()),
    ]
)
"""Of a unit. A corpus' own index has the class number in `label`: units do not know which other classes there are."""

PLANES_FIELD = pa.field(
    "planes",
    pa.list_(
        pa.struct([("name", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string())])
    ),
)
"""The column that an index has besides where a corpus keeps anything beside its images."""
_HASH_FIELD = pa.field("perceptual_hash", pa.uint64())
ENTRY_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
        ("label", pa.string()),
        ("partners", pa.string()),
    ]
)
"""What a unit was made from: the identities of its entries, second files as JSON."""
TOMBSTONE_SCHEMA = pa.schema(
    [("path", pa.string()), ("unit", pa.int64()), ("reason", pa.string()), ("checksum", pa.string())]
)

_Row = TypeVar("_Row", RecordRow, QuarantineRow)
_ROW_GROUP = 1 << 16


def record_schema(schema: pa.Schema = INDEX_SCHEMA, *, planes: bool, hashes: bool = False) -> pa.Schema:
    """The schema of an index, with the columns of planes and hashes if told; hashes never come without planes."""
    schema = schema.append(PLANES_FIELD) if planes or hashes else schema
    return schema.append(_HASH_FIELD) if hashes else schema


def to_parquet(rows: Iterable[Row], schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> bytes:
    """The one Parquet spelling of a table: zstd, page checksums, row groups of 65,536.

    Args:
        rows: come one by one; of each the first as many columns as the schema has.
        schema: of the columns.
        metadata: of the file.
    """
    if metadata is not None:
        schema = schema.with_metadata(dict(metadata))
    sink, remaining = pa.BufferOutputStream(), iter(rows)
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(_table_of(list(itertools.islice(remaining, _ROW_GROUP)), schema))
        while chunk := list(itertools.islice(remaining, _ROW_GROUP)):
            writer.write_table(_table_of(chunk, schema))
    return bytes(sink.getvalue())


def _table_of(rows: list[Row], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*(row[: len(schema)] for row in rows), strict=True)) or [()] * len(schema)
    return pa.table([pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def read_table(data: bytes) -> pa.Table:
    """A table from its Parquet, page checksums verified.

    Raises:
        pa.ArrowException, OSError: the file is damaged.
    """
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)


def read_schema(data: bytes) -> pa.Schema:
    """The schema of a table, with its metadata; no row is read."""
    return pq.read_schema(pa.BufferReader(data))


def from_parquet(data: bytes, kind: type[_Row]) -> list[_Row]:
    """Rows from their Parquet."""
    table = read_table(data)
    names = [field.name for field in fields(kind) if field.name in table.column_names]
    rows = table.select(names).to_pylist()
    return [kind(**{name: _value(name, row[name]) for name in names}) for row in rows]


def _value(name: str, value: Any) -> Any:
    return tuple(PlaneRow(**plane) for plane in value) if name == "planes" else value


def unit_of(shard: str) -> int:
    """The number of the unit that a shard belongs to, from its name."""
    return int(shard.rpartition("-")[2].removesuffix(".tar"))


class TableNames:
    """Names of a unit's tables."""

    def __init__(self, index: int) -> None:
        self.records = f"records-{index:06d}.parquet"
        """Where each image is."""
        self.quarantine = f"quarantine-{index:06d}.parquet"
        """What was left out, and why."""
        self.entries = f"entries-{index:06d}.parquet"
        """What the unit was made from."""
