"""A token file: the indices of one shard and view, one row a record, as Parquet that any reader of Parquet understands.

Axes: R records, N tokens, H×W grid, K entries of the codebook.

Columns: `key`, `label` (class number, -1 without), `split`, `view`, `height`, `width` (of the grid), `indices`
(fixed-size list of N = H·W, row-major; uint16 where K ≤ 65,536, else uint32), `source_sha256`. The file's metadata
holds, under `tessera.tokens`, a JSON of `TokenMeta`: tokenizer, K, f, grid, preprocessing.

What is stored how, and why: dictionary + zstd up to K = 16,384 and byte-stream-split + zstd above come within 2 % of
the entropy of the tokens, where plain Parquet doubles them (it has no 16-bit type). Row groups of 8,192. Page
checksums, written and verified: without them, 99 of 100 flipped bits read back silently as other tokens. Other caches
lose more: 16-bit floats are exact for half of 8,192 indices, int64 arrays take four times the room, and padding by
repetition counts records twice; all of these are refused here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Integer
from pydantic import Field, JsonValue, ValidationError

from datasets.errors import TokenError
from vqgan_core.config import Config, canonical_json

__all__ = ["ROW_GROUP", "TokenFile", "TokenMeta", "TokenRows", "read_token_file", "token_parquet", "without_others"]

FORMAT_VERSION = 1
ROW_GROUP = 8192
_METADATA = b"tessera.tokens"
_LEAF = "indices.list.element"
_DICTIONARY_UP_TO = 16384


class TokenMeta(Config):
    """What a row of indices means."""

    tokenizer_fingerprint: str
    """Which tokenizer was asked for."""
    tokenizer_digest: str
    """Which tokenizer it was: what a prior's own record is compared with."""
    codebook_size: int = Field(ge=1, le=2**32)
    """K: indices are below it."""
    factor: int = Field(ge=1)
    """f: pixels of an image's side for each of the grid's."""
    height: int = Field(ge=1)
    """Rows of the grid."""
    width: int = Field(ge=1)
    """Columns of the grid."""
    class_names: tuple[str, ...] = ()
    """Names of the class numbers in `label`."""
    preprocessing: dict[str, JsonValue] = Field(default_factory=dict)
    """How pixels were made from records: size, crop, channels, precision."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Records of one split seen in one view, ordered by key."""

    split: str
    view: str
    keys: Sequence[str]
    labels: Sequence[int]
    source_sha256: Sequence[str]
    indices: Integer[np.ndarray, "R N"]


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token file that was read and checked."""

    meta: TokenMeta
    split: str
    view: str
    keys: list[str]
    labels: Int64[np.ndarray, " R"]
    indices: Integer[np.ndarray, "R N"]
    """uint16 or uint32."""


def token_parquet(meta: TokenMeta, rows: TokenRows) -> bytes:
    """Write a token file: the same rows give the same bytes.

    Raises:
        TokenError: indices are no integers, not of the grid's size or not below K; keys repeat or are not in order.
    """
    indices = _checked_indices(rows.indices, meta)
    _check_keys(rows.keys)
    count = len(rows.keys)
    if not count == len(rows.labels) == len(rows.source_sha256) == len(indices):
        raise TokenError(
            f"{count} keys, {len(rows.labels)} labels, {len(rows.source_sha256)} checksums and {len(indices)} rows of "
            "indices are not of one length"
        )
    schema = _schema(meta)
    columns = {
        "key": pa.array(rows.keys, pa.string()),
        "label": pa.array(rows.labels, pa.int64()),
        "split": pa.repeat(pa.scalar(rows.split), count),
        "view": pa.repeat(pa.scalar(rows.view), count),
        "height": pa.repeat(pa.scalar(meta.height, pa.int32()), count),
        "width": pa.repeat(pa.scalar(meta.width, pa.int32()), count),
        "indices": pa.FixedSizeListArray.from_arrays(pa.array(indices.reshape(-1)), type=schema.field("indices").type),
        "source_sha256": pa.array(rows.source_sha256, pa.string()),
    }
    table = pa.table(list(columns.values()), schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP,
        write_page_checksum=True,
        **_encoding(meta, table.column_names),
    )
    return bytes(sink.getvalue())


def read_token_file(data: bytes, name: str) -> TokenFile:
    """Read a token file, verifying page checksums, types and values; `name` is for messages.

    Raises:
        TokenError: it is damaged, or no token file of this format.
    """
    try:
        # One thread: whoever reads many files reads them side by side.
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise TokenError(f"the token file {name} is damaged: {' '.join(str(error).split())}") from None
    meta = _read_meta(table.schema.metadata or {}, name)
    if not table.schema.equals(_schema(meta)):
        raise TokenError(f"the token file {name} has columns {_types(table.schema)}, expected {_types(_schema(meta))}")
    if table.num_rows == 0 or any(column.null_count for column in table.columns):
        raise TokenError(f"the token file {name} has no rows, or rows with missing values")
    values = table["indices"].combine_chunks().flatten().to_numpy()
    indices = values.reshape(table.num_rows, meta.height * meta.width)
    keys: list[str] = table["key"].to_pylist()
    try:
        _check_keys(keys)
        indices = _checked_indices(indices, meta)
    except TokenError as error:
        raise TokenError(f"the token file {name}: {error}") from None
    split, view = (_only(table, column, name) for column in ("split", "view"))
    return TokenFile(meta, split, view, keys, table["label"].to_numpy(), indices)


def without_others(data: bytes, name: str, keys: Set[str]) -> bytes:
    """The same token file with the rows of some records only.

    Raises:
        TokenError: it is damaged, or lacks one of them.
    """
    file = read_token_file(data, name)
    source_sha256 = pq.read_table(pa.BufferReader(data), columns=["source_sha256"])["source_sha256"].to_pylist()
    chosen = [row for row, key in enumerate(file.keys) if key in keys]
    if len(chosen) != len(keys):
        raise TokenError(f"the token file {name} has {len(chosen)} of {len(keys)} records that it should have")
    rows = TokenRows(
        split=file.split,
        view=file.view,
        keys=[file.keys[row] for row in chosen],
        labels=file.labels[chosen].tolist(),
        source_sha256=[source_sha256[row] for row in chosen],
        indices=file.indices[chosen],
    )
    return token_parquet(file.meta, rows)


def _schema(meta: TokenMeta) -> pa.Schema:
    element = pa.uint16() if meta.codebook_size <= 1 << 16 else pa.uint32()
    fields = [
        ("key", pa.string()),
        ("label", pa.int64()),
        ("split", pa.string()),
        ("view", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("indices", pa.list_(pa.field("element", element), meta.height * meta.width)),
        ("source_sha256", pa.string()),
    ]
    about = {"format_version": FORMAT_VERSION, **meta.model_dump(mode="json")}
    return pa.schema(fields, metadata={_METADATA: canonical_json(about)})


def _encoding(meta: TokenMeta, columns: Sequence[str]) -> dict[str, Any]:
    others = [name for name in columns if name != "indices"]
    if meta.codebook_size <= _DICTIONARY_UP_TO:
        return {"use_dictionary": [*others, _LEAF]}
    return {"use_dictionary": others, "column_encoding": {_LEAF: "BYTE_STREAM_SPLIT"}}


def _checked_indices(indices: Integer[np.ndarray, "R ..."], meta: TokenMeta) -> Integer[np.ndarray, "R N"]:
    if indices.dtype.kind not in "iu":
        raise TokenError(f"indices are integers, got {indices.dtype}: a float cannot hold every index exactly")
    flat = indices.reshape(len(indices), -1)
    if flat.shape[1] != meta.height * meta.width:
        raise TokenError(f"{flat.shape[1]} indices a record do not fill a grid of {meta.height}×{meta.width}")
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= meta.codebook_size):
        raise TokenError(
            f"indices lie from {flat.min()} to {flat.max()}, a codebook of {meta.codebook_size} entries has 0 to "
            f"{meta.codebook_size - 1}"
        )
    return flat.astype(np.uint16 if meta.codebook_size <= 1 << 16 else np.uint32, copy=False)


def _check_keys(keys: Sequence[str]) -> None:
    for before, key in itertools.pairwise(keys):
        if key == before:
            raise TokenError(f"record {key} comes twice: every record is stored once, nothing is padded by repetition")
        if key < before:
            raise TokenError(f"keys must ascend, {key} comes after {before}")


def _read_meta(metadata: dict[bytes, bytes], name: str) -> TokenMeta:
    values = json.loads(metadata.get(_METADATA, b"{}"))
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise TokenError(f"{name} has token format {version}, this code reads format {FORMAT_VERSION}: encode again")
    try:
        return TokenMeta.model_validate(values)
    except ValidationError as error:
        raise TokenError(f"the metadata of {name} is not that of a token file: {error.errors()[0]['msg']}") from None


def _only(table: pa.Table, column: str, name: str) -> str:
    values = table[column].unique().to_pylist()
    if len(values) != 1:
        raise TokenError(f"the token file {name} mixes {column}s {sorted(values)}; a file has one")
    return str(values[0])


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
