"""The two tables of a corpus: where each record is, and what became of everything else. Parquet, byte-deterministic."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.sorting import Row
from datasets.sources.listing import Partner, SourceEntry

__all__ = [
    "INDEX_SCHEMA",
    "QUARANTINE_SCHEMA",
    "TOMBSTONE_SCHEMA",
    "PlaneRow",
    "QuarantineRow",
    "RecordRow",
    "TableNames",
    "entries_of",
    "entry_row",
    "entry_schema",
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

    def to_row(self) -> Row:
        """The fields in the order of the schema, as JSON."""
        *columns, planes = (getattr(self, name) for name in self.__slots__)
        return (*columns, [astuple(plane) for plane in planes])

    def to_mapping(self) -> dict[str, Any]:
        """The fields by name, as a reader of the table gets them."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> RecordRow:
        """The record of a row."""
        values = dict(zip(cls.__slots__, row, strict=True))
        return cls(**values | {"planes": tuple(PlaneRow(*plane) for plane in values["planes"])})


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Something that a source names and that is no record, and why."""

    path: str
    sha256: str | None
    reason: str
    detail: str

    def to_row(self) -> Row:
        """The fields in the order of the schema."""
        return tuple(getattr(self, name) for name in self.__slots__)


QUARANTINE_SCHEMA = pa.schema(
    [("path", pa.string()), ("sha256", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)
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

_PLANES = pa.field(
    "planes",
    pa.list_(
        pa.struct([("name", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string())])
    ),
)
_PARTNERS = pa.field(
    "partners",
    pa.list_(
        pa.struct([("name", pa.string()), ("path", pa.string()), ("bytes", pa.int64()), ("checksum", pa.string())])
    ),
)
_ENTRY_SCHEMA = pa.schema(
    [("path", pa.string()), ("bytes", pa.int64()), ("checksum", pa.string()), ("label", pa.string())]
)
TOMBSTONE_SCHEMA = pa.schema(
    [("path", pa.string()), ("unit", pa.int64()), ("reason", pa.string()), ("checksum", pa.string())]
)

_Row = TypeVar("_Row", RecordRow, QuarantineRow)
_ROW_GROUP = 1 << 16


def record_schema(*, planes: bool) -> pa.Schema:
    """Of a unit's index, with the column of planes if told."""
    return INDEX_SCHEMA.append(_PLANES) if planes else INDEX_SCHEMA


def entry_schema(*, partners: bool) -> pa.Schema:
    """Of what a unit was made from: the identities of its entries, with their second files if told."""
    return _ENTRY_SCHEMA.append(_PARTNERS) if partners else _ENTRY_SCHEMA


def entry_row(entry: SourceEntry) -> Row:
    """An entry's identity as a row of `entry_schema`."""
    path, num_bytes, checksum, label, _, partners = entry.to_row()
    return (path, num_bytes, checksum, label, partners)


def entries_of(table: pa.Table) -> Iterator[SourceEntry]:
    """Entries from their table."""
    for row in table.to_pylist():
        partners = tuple(Partner(**partner) for partner in row.pop("partners", ()))
        yield SourceEntry(**row, partners=partners)


def to_parquet(rows: Iterable[Row], schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> bytes:
    """The one Parquet spelling of a table: zstd, page checksums, row groups of 65,536; rows come one by one."""
    if metadata is not None:
        schema = schema.with_metadata(dict(metadata))
    sink, remaining = pa.BufferOutputStream(), iter(rows)
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(_table_of(list(itertools.islice(remaining, _ROW_GROUP)), schema))
        while chunk := list(itertools.islice(remaining, _ROW_GROUP)):
            writer.write_table(_table_of(chunk, schema))
    return bytes(sink.getvalue())


def _table_of(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """A table without its last columns is told so by the schema."""
    columns = list(zip(*rows, strict=True))[: len(schema)] or [()] * len(schema)
    return pa.table([_array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    if not pa.types.is_list(type_):
        return pa.array(values, type=type_)
    names = [field.name for field in type_.value_type]
    return pa.array([[dict(zip(names, item, strict=True)) for item in items] for items in values], type=type_)


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
    return [kind(**{name: _value(name, row[name]) for name in names}) for row in table.select(names).to_pylist()]


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
