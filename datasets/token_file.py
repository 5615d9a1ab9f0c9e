"""A token file: the indices of one shard and view, one row a record, as Parquet that any reader of Parquet understands.

Axes: R records, N tokens, H×W grid, K entries of the codebook.

Columns: `key`, `label` (class number, -1 without), `split`, `view`, `height`, `width` (of the grid), `indices`
(fixed-size list of N = H·W, row-major; uint16 where K ≤ 65,536, else uint32), then one more such list for each of
`TokenMeta.columns`, under its own name, and `source_sha256`. Of a view that was drawn at random, `CROP_COLUMNS` follow:
the window of the stored image in px, and whether it was mirrored. The file's metadata holds, under `tessera.tokens`, a
JSON of `TokenMeta`: tokenizer, K, f, grid, preprocessing, and the same of each further column.

A further column is another grid of tokens of the same record: the upper level of a hierarchy (`indices_top`), or what a
prior is told first (a segmentation map through a tokenizer of its own, a layout of boxes).

What is stored how, and why: dictionary + zstd up to K = 16,384 and byte-stream-split + zstd above come within 2 % of
the entropy of the tokens, where plain Parquet doubles them (it has no 16-bit type). Row groups of 8,192. Page
checksums, written and verified: without them, 99 of 100 flipped bits read back silently as other tokens. Other caches
lose more: 16-bit floats are exact for half of 8,192 indices, int64 arrays take four times the room, and padding by
repetition counts records twice; all of these are refused here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Integer
from pydantic import Field, JsonValue, ValidationError, model_validator

from datasets.errors import TokenError
from vqgan_core.config import Config, canonical_json
from vqgan_core.config.base import LATER
from vqgan_core.config.tokens import TARGET, ColumnName

__all__ = [
    "CROP_COLUMNS",
    "ROW_GROUP",
    "TokenColumn",
    "TokenFile",
    "TokenMeta",
    "TokenRows",
    "read_meta",
    "read_token_file",
    "token_parquet",
    "without_others",
]

FORMAT_VERSION = 1
ROW_GROUP = 8192
CROP_COLUMNS = ("crop_top", "crop_left", "crop_height", "crop_width", "mirrored")
"""Of a random view: the window of the stored image, px; 1 where it was mirrored."""
_METADATA = b"tessera.tokens"
_DICTIONARY_UP_TO = 16384


class TokenColumn(Config):
    """What the tokens of one column mean."""

    name: ColumnName
    """Of the Parquet column."""
    tokenizer_fingerprint: str = ""
    """Which tokenizer was asked for; empty: none, `preprocessing` says how the tokens were made."""
    tokenizer_digest: str = ""
    """Which tokenizer it was: what a prior's own record is compared with."""
    codebook_size: int = Field(ge=1, le=2**32)
    """K: indices are below it."""
    factor: int = Field(1, ge=1)
    """f: pixels of an image's side for each of the grid's."""
    height: int = Field(ge=1)
    """Rows of the grid."""
    width: int = Field(ge=1)
    """Columns of the grid."""
    preprocessing: dict[str, JsonValue] = Field(default_factory=dict)
    """How the tokenizer's pixels, or the tokens themselves, were made from records."""


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
    columns: Annotated[tuple[TokenColumn, ...], LATER] = ()
    """Further columns of tokens, beside `indices`."""
    crops: Annotated[dict[str, JsonValue] | None, LATER] = None
    """How the windows of a random view were drawn; null: the view's name says where they are."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [column.name for column in self.columns]
        if TARGET in names or len(set(names)) < len(names):
            raise ValueError(f"columns {names}: each needs a name of its own, other than {TARGET}")
        return self

    @property
    def all_columns(self) -> dict[str, TokenColumn]:
        """Every column of tokens by name, `indices` first."""
        shared = {name: getattr(self, name) for name in TokenColumn.model_fields if name != "name"}
        return {column.name: column for column in (TokenColumn(name=TARGET, **shared), *self.columns)}

    def column(self, name: str) -> TokenColumn:
        """One column by name.

        Raises:
            TokenError: there is no such column.
        """
        if name not in self.all_columns:
            raise TokenError(
                f"these tokens have no column {name!r}; they have {', '.join(self.all_columns)}: encode the "
                "corpus with that column"
            )
        return self.all_columns[name]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Records of one split seen in one view, ordered by key."""

    split: str
    view: str
    keys: Sequence[str]
    labels: Sequence[int]
    source_sha256: Sequence[str]
    indices: Integer[np.ndarray, "R N"]
    columns: Mapping[str, Integer[np.ndarray, "R M"]] = field(default_factory=dict)
    """Further columns by name, all of `TokenMeta.columns`."""
    crops: Integer[np.ndarray, "R 5"] | None = None
    """`CROP_COLUMNS`, of a random view."""

    def tokens(self, name: str) -> Integer[np.ndarray, "R M"]:
        """A column by name, `indices` included."""
        return self.indices if name == TARGET else self.columns[name]


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token file that was read and checked."""

    meta: TokenMeta
    split: str
    view: str
    keys: list[str]
    labels: Int64[np.ndarray, " R"]
    tokens: Mapping[str, Integer[np.ndarray, "R M"]]
    """Every column of tokens by name, uint16 or uint32."""
    crops: Int64[np.ndarray, "R 5"] | None = None
    """`CROP_COLUMNS`, of a random view."""

    @property
    def indices(self) -> Integer[np.ndarray, "R N"]:
        """The column `indices`."""
        return self.tokens[TARGET]


def token_parquet(meta: TokenMeta, rows: TokenRows) -> bytes:
    """Write a token file: the same rows give the same bytes.

    Raises:
        TokenError: indices are no integers, not of the grid's size or not below K; keys repeat or are not in order.
    """
    if set(rows.columns) != {column.name for column in meta.columns}:
        raise TokenError(f"rows have the columns {sorted(rows.columns)}, said are {[c.name for c in meta.columns]}")
    tokens = {name: _checked(rows.tokens(name), about) for name, about in meta.all_columns.items()}
    _check_keys(rows.keys)
    count = len(rows.keys)
    lengths = {name: len(values) for name, values in tokens.items()}
    if meta.crops is not None:
        lengths["windows"] = 0 if rows.crops is None else len(rows.crops)
    if {count, len(rows.labels), len(rows.source_sha256), *lengths.values()} != {count}:
        raise TokenError(
            f"{count} keys, {len(rows.labels)} labels, {len(rows.source_sha256)} checksums and {lengths} rows of "
            "tokens are not of one length"
        )
    schema = _schema(meta)
    columns = {
        "key": pa.array(rows.keys, pa.string()),
        "label": pa.array(rows.labels, pa.int64()),
        "split": pa.repeat(pa.scalar(rows.split), count),
        "view": pa.repeat(pa.scalar(rows.view), count),
        "height": pa.repeat(pa.scalar(meta.height, pa.int32()), count),
        "width": pa.repeat(pa.scalar(meta.width, pa.int32()), count),
        **{
            name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=schema.field(name).type)
            for name, values in tokens.items()
        },
        "source_sha256": pa.array(rows.source_sha256, pa.string()),
        **_crop_columns(meta, rows),
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
    meta = read_meta(table.schema.metadata or {}, name)
    if not table.schema.equals(_schema(meta)):
        raise TokenError(f"the token file {name} has columns {_types(table.schema)}, expected {_types(_schema(meta))}")
    if table.num_rows == 0 or any(column.null_count for column in table.columns):
        raise TokenError(f"the token file {name} has no rows, or rows with missing values")
    keys: list[str] = table["key"].to_pylist()
    try:
        _check_keys(keys)
        tokens = {column: _checked(_values(table, about), about) for column, about in meta.all_columns.items()}
    except TokenError as error:
        raise TokenError(f"the token file {name}: {error}") from None
    split, view = (_only(table, column, name) for column in ("split", "view"))
    return TokenFile(meta, split, view, keys, table["label"].to_numpy(), tokens, _crops(meta, table))


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
        columns={column.name: file.tokens[column.name][chosen] for column in file.meta.columns},
        crops=None if file.crops is None else file.crops[chosen],
    )
    return token_parquet(file.meta, rows)


def _schema(meta: TokenMeta) -> pa.Schema:
    fields = [
        ("key", pa.string()),
        ("label", pa.int64()),
        ("split", pa.string()),
        ("view", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        *((name, _list_type(about)) for name, about in meta.all_columns.items()),
        ("source_sha256", pa.string()),
        *((name, pa.int32()) for name in CROP_COLUMNS if meta.crops is not None),
    ]
    about = {"format_version": FORMAT_VERSION, **meta.recipe()}
    return pa.schema(fields, metadata={_METADATA: canonical_json(about)})


def _crop_columns(meta: TokenMeta, rows: TokenRows) -> dict[str, pa.Array]:
    if meta.crops is None or rows.crops is None:
        return {}
    return {name: pa.array(rows.crops[:, place], pa.int32()) for place, name in enumerate(CROP_COLUMNS)}


def _crops(meta: TokenMeta, table: pa.Table) -> Int64[np.ndarray, "R 5"] | None:
    if meta.crops is None:
        return None
    return np.stack([table[name].to_numpy() for name in CROP_COLUMNS], axis=1).astype(np.int64)


def _list_type(about: TokenColumn) -> pa.DataType:
    return pa.list_(pa.field("element", pa.from_numpy_dtype(_dtype(about))), about.height * about.width)


def _dtype(about: TokenColumn) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if about.codebook_size <= 1 << 16 else np.uint32


def _encoding(meta: TokenMeta, columns: Sequence[str]) -> dict[str, Any]:
    """Dictionaries, but for columns of large codebooks."""
    leaves = {name: f"{name}.list.element" for name in meta.all_columns}
    large = [leaves[name] for name, about in meta.all_columns.items() if about.codebook_size > _DICTIONARY_UP_TO]
    others = [leaves.get(name, name) for name in columns if leaves.get(name) not in large]
    return {"use_dictionary": others, "column_encoding": dict.fromkeys(large, "BYTE_STREAM_SPLIT") or None}


def _values(table: pa.Table, about: TokenColumn) -> Integer[np.ndarray, "R M"]:
    values: Integer[np.ndarray, " L"] = table[about.name].combine_chunks().flatten().to_numpy()
    return values.reshape(table.num_rows, about.height * about.width)


def _checked(indices: Integer[np.ndarray, "R ..."], about: TokenColumn) -> Integer[np.ndarray, "R M"]:
    name = about.name
    if indices.dtype.kind not in "iu":
        raise TokenError(f"{name} are integers, got {indices.dtype}: a float cannot hold every index exactly")
    flat = indices.reshape(len(indices), -1) if len(indices) else indices.reshape(0, about.height * about.width)
    if flat.shape[1] != about.height * about.width:
        raise TokenError(f"{flat.shape[1]} {name} a record do not fill a grid of {about.height}×{about.width}")
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= about.codebook_size):
        raise TokenError(
            f"{name} lie from {flat.min()} to {flat.max()}, a codebook of {about.codebook_size} entries has 0 to "
            f"{about.codebook_size - 1}"
        )
    return flat.astype(_dtype(about), copy=False)


def _check_keys(keys: Sequence[str]) -> None:
    for before, key in itertools.pairwise(keys):
        if key == before:
            raise TokenError(f"record {key} comes twice: every record is stored once, nothing is padded by repetition")
        if key < before:
            raise TokenError(f"keys must ascend, {key} comes after {before}")


def read_meta(metadata: Mapping[bytes, bytes], name: str) -> TokenMeta:
    """What the metadata of a token file's schema say; `name` is for messages.

    Raises:
        TokenError: it is no token file of this format.
    """
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
