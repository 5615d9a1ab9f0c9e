"""The two tables of a corpus: where each record is, and what became of everything else. Parquet, byte-deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "INDEX_SCHEMA",
    "QUARANTINE_SCHEMA",
    "QuarantineRow",
    "RecordRow",
    "from_parquet",
    "read_table",
    "table_of",
    "to_parquet",
]


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

_Row = TypeVar("_Row", RecordRow, QuarantineRow)


def table_of(rows: Iterable[RecordRow] | Iterable[QuarantineRow], schema: pa.Schema) -> pa.Table:
    """Rows as a table, in the given order."""
    columns = list(zip(*map(astuple, rows), strict=True)) or [()] * len(schema)
    return pa.table([pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


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
    columns: list[Any] = [table[field.name].to_pylist() for field in fields(kind)]
    return [kind(*values) for values in zip(*columns, strict=True)]
