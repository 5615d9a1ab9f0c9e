"""Tables of labels: CSV, JSON lines or Parquet with a column of relative paths and one of labels."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from datasets.config import FolderSource
from datasets.errors import SourceError
from datasets.sorting import SortedRows
from datasets.sources.filesystem import Remote

__all__ = ["read_labels"]

_ROWS_AT_ONCE = 10_000
_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


def read_labels(config: FolderSource) -> Iterator[tuple[str, str | None]]:
    """Path and label of each row of the table, by path; an empty or null label is None. Labels are text: `007` stays.

    Raises:
        SourceError: the table cannot be read, lacks a column, or gives a path two labels.
    """
    url = config.labels
    assert url is not None, "called only where a table is configured"
    before: tuple[str, str | None] | None = None
    for name, label in SortedRows(rows=_rows(url, config)):
        if before is not None and before[0] == name:
            if before[1] != label:
                raise SourceError(f"{url} gives {name} two labels: {before[1]!r} and {label!r}")
            continue
        before = (name, label)
        yield before


def _rows(url: str, config: FolderSource) -> Iterator[tuple[str, str | None]]:
    table = _read_table(url, config)
    for column in (config.path_column, config.label_column):
        if column not in table.column_names:
            raise SourceError(f"{url} has no column {column!r}; its columns are {', '.join(table.column_names)}")
    number = 0
    for batch in table.select([config.path_column, config.label_column]).to_batches(max_chunksize=_ROWS_AT_ONCE):
        for path, value in zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True):
            number += 1
            if path is None:
                raise SourceError(f"{url}: row {number} has no path")
            yield posixpath.normpath(str(path)).lstrip("/"), None if value in (None, "") else str(value)


def _read_table(url: str, config: FolderSource) -> pa.Table:
    suffix = posixpath.splitext(url)[1].lower()
    if suffix not in _SUFFIXES:
        raise SourceError(f"a table of labels ends in {', '.join(_SUFFIXES)}; got {url}")
    remote = Remote(url, config.endpoint_url)
    with remote.explained("read the labels"), remote.open() as stream:
        table = pa.BufferReader(stream.read())
    try:
        if suffix == ".parquet":
            return pq.read_table(table)
        if suffix != ".csv":
            return pa.json.read_json(table)
        columns = dict.fromkeys((config.path_column, config.label_column), pa.string())
        return pa.csv.read_csv(table, convert_options=pa.csv.ConvertOptions(column_types=columns))
    except pa.ArrowInvalid as error:
        raise SourceError(f"{url} is no readable {suffix} table: {' '.join(str(error).split())}") from None
