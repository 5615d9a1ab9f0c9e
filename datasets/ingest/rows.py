"""The two tables of a corpus: where each record is, and what became of everything else. Parquet, byte-deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "INDEX_SCHEMA",
    "PLANES_FIELD",
    "QUARANTINE_SCHEMA",
    "PlaneRow",
    "QuarantineRow",
    "RecordRow",
    "from_parquet",
    "read_table",
    "record_table",
    "table_of",
    "to_parquet",
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


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Something that a source names and that is no record, and why."""

    path: str
    sha256: str | None
    reason: str
    detail: str


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
PLANES_FIELD = pa.field(
    "planes",
    pa.list_(
        pa.struct([("name", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string())])
    ),
)
"""The column that an index has besides where a corpus keeps anything beside its images."""

_Row = TypeVar("_Row", RecordRow, QuarantineRow)


def table_of(rows: Iterable[RecordRow] | Iterable[QuarantineRow], schema: pa.Schema) -> pa.Table:
    """Rows as a table, in the given order."""
    dumped = [asdict(row) for row in rows]
    return pa.table([pa.array([row[f.name] for row in dumped], type=f.type) for f in schema], schema=schema)


def record_table(rows: Sequence[RecordRow], *, planes: bool) -> pa.Table:
    """Records as a unit's index, with the column of planes if told."""
    return table_of(rows, INDEX_SCHEMA.append(PLANES_FIELD) if planes else INDEX_SCHEMA)


def to_parquet(table: pa.Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """The one Parquet spelling of a table: zstd, page checksums."""
    if metadata is not None:
        table = table.replace_schema_metadata(dict(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=1 << 16, write_page_checksum=True)
    return bytes(sink.getvalue())


def read_table(data: bytes) -> pa.Table:
    """A table from its Parquet, page checksums verified.

    Raises:
        pa.ArrowException, OSError: the file is damaged.
    """
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)


def from_parquet(data: bytes, kind: type[_Row]) -> list[_Row]:
    """Rows from their Parquet."""
    table = read_table(data)
    names = [field.name for field in fields(kind) if field.name in table.column_names]
    rows = table.select(names).to_pylist()
    return [kind(**{name: _value(name, row[name]) for name in names}) for row in rows]


def _value(name: str, value: Any) -> Any:
    return tuple(PlaneRow(**plane) for plane in value) if name == "planes" else value
