"""Tokens that were made elsewhere, as token files of ours: any Parquet with a column of lists of integers.

Axes: R records, N tokens, H×W grid, K entries.

A file of our own format stays as it is, byte for byte. Of any other, the indices may lie in lists of N integers or in
H lists of W; K and the grid are stated by the config where the file cannot say them, and nothing is guessed: what two
sources say must agree. Keys that are no hexadecimal hashes are hashed, since records are shuffled and split by them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Integer

from datasets.config import ImportTokensConfig
from datasets.errors import TokenError
from datasets.sources.filesystem import Remote
from datasets.sources.listing import SourceEntry
from datasets.token_file import TokenFile, TokenMeta, TokenRows, read_token_file, token_parquet
from vqgan_core.config import sha256_json

__all__ = ["ForeignFile", "ForeignTokens", "list_parquet"]

_OUR_METADATA = b"tessera.tokens"
_HASH = re.compile(r"[0-9a-f]{16,128}")
_SPLITS = {"train": "train", "val": "val", "validation": "val"}


@dataclass(frozen=True)
class ForeignFile:
    """A Parquet file: its path below the URL, what identifies its content, and how it is read."""

    path: str
    checksum: str
    read: Callable[[], bytes]


def list_parquet(url: str, endpoint_url: str | None = None) -> list[ForeignFile]:
    """The Parquet files at a URL, sorted by path.

    Raises:
        SourceError: it cannot be listed.
        TokenError: there is none.
    """
    remote = Remote(url, endpoint_url)
    with remote.explained("list"):
        single = remote.fs.info(remote.path) if remote.fs.isfile(remote.path) else None
    found = {"": single} if single is not None else {k: v for k, v in remote.walk() if k.endswith(".parquet")}
    if not found:
        raise TokenError(f"{url} has no Parquet file: give one, or a folder with some below it")
    files = []
    for path, info in sorted(found.items()):
        entry = SourceEntry(path or remote.path.rpartition("/")[2], info["size"], remote.checksum(path, info), None)
        files.append(ForeignFile(entry.path, entry.checksum, partial(remote.read, entry, path)))
    return files


class ForeignTokens:
    """Files and what they mean together: the first pass over them, which reads no indices.

    Args:
        files: at least one.
        config: what they do not say themselves.

    Raises:
        TokenError: a file is damaged, lacks a column, or does not say K or the grid where the config does not.
    """

    def __init__(self, files: Sequence[ForeignFile], config: ImportTokensConfig) -> None:
        self.files = files
        self._config = config
        glimpses = [_Glimpse.of(file, config) for file in files]
        self._ours = {glimpse.meta is not None for glimpse in glimpses}
        self.meta = self._agreed(glimpses) if self._ours == {True} else self._stated(glimpses)
        """What the indices mean."""

    def key(self, file: ForeignFile, stage_version: str) -> str:
        """Everything that a file's token files depend on."""
        return sha256_json(
            [stage_version, self.meta.model_dump(mode="json"), self._config.recipe(), file.path, file.checksum]
        )

    def convert(self, number: int) -> dict[str, bytes]:
        """The token files of one file, by name.

        Raises:
            TokenError: it is damaged, or its values are no tokens of this codebook and grid.
        """
        file = self.files[number]
        data = file.read()
        if True in self._ours:
            ours: TokenFile = read_token_file(data, file.path)
            return {f"{ours.split}-{number:06d}-{ours.view}.parquet": data}
        checksum = hashlib.sha256(data).hexdigest()
        table = _table(data, file.path)
        named = {}
        for split, rows in self._records(table, file.path, checksum):
            try:
                named[f"{split}-{number:06d}-center.parquet"] = token_parquet(self.meta, rows)
            except TokenError as error:
                raise TokenError(f"{file.path}: {error}") from None
        return named

    def _agreed(self, glimpses: Sequence[_Glimpse]) -> TokenMeta:
        """What files of our own format say, where the config does not contradict."""
        first = glimpses[0].meta
        assert first is not None
        config, said = self._config, (first.height, first.width)
        stated = {
            "codebook_size": (config.codebook_size, first.codebook_size),
            "grid": (config.grid, said),
            "factor": (config.factor, first.factor),
            "tokenizer_digest": (config.tokenizer_digest, first.tokenizer_digest),
            "class_names": (config.class_names, first.class_names),
        }
        for name, (given, found) in stated.items():
            if given is not None and given != found:
                raise TokenError(f"{name} is given as {given}, but {self.files[0].path} says {found}: leave it out")
        return first

    def _stated(self, glimpses: Sequence[_Glimpse]) -> TokenMeta:
        config = self._config
        if True in self._ours:
            raise TokenError("some files are token files of ours and others are not: import them one after the other")
        if config.codebook_size is None:
            raise TokenError(f"{self.files[0].path} does not say how many codes there are: give codebook_size")
        height, width = config.grid or self._nested_grid(glimpses)
        return TokenMeta(
            tokenizer_fingerprint="",
            tokenizer_digest=config.tokenizer_digest or "",
            codebook_size=config.codebook_size,
            factor=config.factor or 1,
            height=height,
            width=width,
            class_names=config.class_names if config.class_names is not None else _classes(glimpses),
        )

    def _nested_grid(self, glimpses: Sequence[_Glimpse]) -> tuple[int, int]:
        grids = {glimpse.grid for glimpse in glimpses}
        if len(grids) != 1 or None in grids:
            found = ", ".join(str(grid) for grid in sorted(grids, key=str))
            raise TokenError(f"the rows of {self.files[0].path} are no grids of one size ({found}): give grid=[H, W]")
        (grid,) = grids
        assert grid is not None
        return grid

    def _records(self, table: pa.Table, path: str, checksum: str) -> Iterator[tuple[str, TokenRows]]:
        config, count = self._config, table.num_rows
        names = _column(table, config.key_column) or [f"{path}\0{row}" for row in range(count)]
        keys = np.array([_key(str(name)) for name in names], np.str_)
        labels = self._labels(_column(table, config.label_column) or [-1] * count, path)
        splits = np.array(self._splits(_column(table, config.split_column), keys.tolist(), path), np.str_)
        indices = _indices(table[config.indices_column], count, self.meta, path)
        for split in sorted(set(splits.tolist())):
            chosen = np.flatnonzero(splits == split)
            chosen = chosen[np.argsort(keys[chosen], kind="stable")]
            yield (
                split,
                TokenRows(
                    split=split,
                    view="center",
                    keys=keys[chosen].tolist(),
                    labels=labels[chosen].tolist(),
                    source_sha256=[checksum] * len(chosen),
                    indices=indices[chosen],
                ),
            )

    def _labels(self, values: Sequence[Any], path: str) -> Int64[np.ndarray, " R"]:
        names = self.meta.class_names
        numbers = {name: number for number, name in enumerate(names)}
        found = [value if isinstance(value, int) else numbers.get(str(value), -2) for value in values]
        for value, number in zip(values, found, strict=True):
            if not -1 <= number < max(len(names), 1):
                raise TokenError(f"{path} has the label {value!r}, the classes are {', '.join(names[:8]) or 'none'}")
        return np.array(found, np.int64)

    def _splits(self, values: Sequence[Any] | None, keys: Sequence[str], path: str) -> list[str]:
        if values is None:
            limit = self._config.validation_fraction * 2**32
            return ["val" if int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) < limit else "train" for key in keys]
        for value in values:
            if value not in _SPLITS:
                raise TokenError(f"{path} has the split {value!r}: allowed are {', '.join(_SPLITS)}")
        return [_SPLITS[value] for value in values]


@dataclass(frozen=True)
class _Glimpse:
    """What a file says without its indices being read."""

    meta: TokenMeta | None
    """Of a file of our own format."""
    grid: tuple[int, int] | None
    """Of the first row, where it is nested."""
    labels: frozenset[str | int]

    @classmethod
    def of(cls, file: ForeignFile, config: ImportTokensConfig) -> _Glimpse:
        data = file.read()
        try:
            parquet = pq.ParquetFile(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise TokenError(f"{file.path} is no Parquet file: {' '.join(str(error).split())}") from None
        if _OUR_METADATA in (parquet.schema_arrow.metadata or {}):
            return cls(read_token_file(data, file.path).meta, None, frozenset())
        names = parquet.schema_arrow.names
        if config.indices_column not in names:
            raise TokenError(
                f"{file.path} has no column {config.indices_column!r}, only {', '.join(names)}: "
                "indices_column names the one with the tokens"
            )
        row = next(parquet.iter_batches(1, columns=[config.indices_column]), None)
        first = row.column(0).to_pylist()[0] if row is not None and row.num_rows else None
        is_nested = isinstance(first, list) and bool(first) and isinstance(first[0], list)
        labels = _column(_table(data, file.path, [config.label_column]), config.label_column) or []
        grid = (len(first), len(first[0])) if first is not None and is_nested else None
        return cls(None, grid, frozenset(labels))


def _table(data: bytes, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        reader = pq.ParquetFile(pa.BufferReader(data))
        wanted = None if columns is None else [name for name in columns if name in reader.schema_arrow.names]
        return reader.read(columns=wanted, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise TokenError(f"{path} is damaged: {' '.join(str(error).split())}") from None


def _column(table: pa.Table, name: str) -> list[Any] | None:
    if name not in table.column_names:
        return None
    if table[name].null_count:
        raise TokenError(f"the column {name!r} has missing values")
    values: list[Any] = table[name].to_pylist()
    return values


def _indices(column: pa.ChunkedArray, count: int, meta: TokenMeta, path: str) -> Integer[np.ndarray, "R N"]:
    """The column's integers, whatever the lists are nested in; every row has H·W of them."""
    arrays = column.chunks
    flat, levels = [], 0
    for array in arrays:
        levels = 0
        while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or _is_fixed(array.type):
            _check_lengths(array, meta, levels, path)
            array, levels = array.flatten(), levels + 1  # noqa: PLW2901 - peeled level by level
        flat.append(array)
    kind = flat[0].type if flat else None
    if levels not in (1, 2) or not pa.types.is_integer(kind) or any(array.null_count for array in flat):
        raise TokenError(f"{path}: the indices are {column.type}, expected lists of integers without gaps")
    return np.concatenate([array.to_numpy(zero_copy_only=False) for array in flat]).reshape(count, -1)


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def _check_lengths(array: pa.Array, meta: TokenMeta, level: int, path: str) -> None:
    inner = array.type.value_type
    nested = pa.types.is_list(inner) or pa.types.is_large_list(inner) or _is_fixed(inner)
    expected = meta.width if level == 1 else (meta.height if nested else meta.height * meta.width)
    lengths = set(pa.compute.list_value_length(array).unique().to_pylist())
    if lengths != {expected}:
        shown = ", ".join(str(length) for length in sorted(lengths, key=str)[:4])
        raise TokenError(f"{path}: lists of {shown} indices do not fill a grid of {meta.height}×{meta.width}")


def _classes(glimpses: Sequence[_Glimpse]) -> tuple[str, ...]:
    """The labels that occur: names in order, or every number up to the largest."""
    labels = {label for glimpse in glimpses for label in glimpse.labels}
    if all(isinstance(label, int) for label in labels):
        return tuple(str(number) for number in range(max((int(label) for label in labels), default=-1) + 1))
    return tuple(sorted(str(label) for label in labels))


def _key(name: str) -> str:
    return name if _HASH.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:32]
