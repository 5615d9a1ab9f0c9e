"""Further columns of a token dataset: stored by the same rules as the first, read only where asked for."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from datasets.errors import TokenError, TokenMismatch
from datasets.files import MemoryFiles
from datasets.token_file import TokenColumn, TokenMeta, TokenRows, read_token_file, token_parquet
from datasets.tokens import TokenDataset
from tests.datasets.test_tokens import META, rows

TOP = TokenColumn(
    name="indices_top", tokenizer_fingerprint="f" * 64, tokenizer_digest="t" * 64, codebook_size=70_000, factor=8,
    height=2, width=3,
)  # fmt: skip
BOXES = TokenColumn(name="boxes", codebook_size=20, height=1, width=5, preprocessing={"kind": "boxes"})
BOTH = META.model_copy(update={"columns": (TOP, BOXES)})


def told(count: int, **kwargs: Any) -> TokenRows:
    """Rows whose further columns follow from the first one."""
    part = rows(count, **kwargs)
    return replace(part, columns={"indices_top": part.indices[:, :6] + 69_000, "boxes": part.indices[:, 6:11] % 20})


def dataset(*parts: TokenRows) -> TokenDataset:
    files = {f"{i}.parquet": token_parquet(BOTH, part) for i, part in enumerate(parts)}
    return TokenDataset(MemoryFiles(files), files)


def test_round_trip() -> None:
    part = told(40)
    data = token_parquet(BOTH, part)
    assert data == token_parquet(BOTH, part)
    read = read_token_file(data, "x")
    assert read.meta == BOTH
    assert {name: values.dtype for name, values in read.tokens.items()} == {
        "indices": np.uint16, "indices_top": np.uint32, "boxes": np.uint16,
    }  # fmt: skip
    for name, values in read.tokens.items():
        assert (values == part.tokens(name)).all()


def test_the_schema_and_encodings_are_those_of_the_format() -> None:
    file = pq.ParquetFile(io.BytesIO(token_parquet(BOTH, told(3))))
    names = file.schema_arrow.names
    assert names[-4:] == ["indices", "indices_top", "boxes", "source_sha256"]
    assert file.schema_arrow.field("indices_top").type == pa.list_(pa.field("element", pa.uint32()), 6)
    encodings = {
        chunk.path_in_schema: chunk.encodings for chunk in (file.metadata.row_group(0).column(i) for i in range(10))
    }
    assert "BYTE_STREAM_SPLIT" in encodings["indices_top.list.element"]
    assert "RLE_DICTIONARY" in encodings["boxes.list.element"]


def test_without_columns_nothing_is_said_of_them() -> None:
    """Files of before stay what they were: same metadata, same bytes, and so the same digests."""
    about = pq.read_schema(io.BytesIO(token_parquet(META, rows(3)))).metadata[b"tessera.tokens"]
    assert b"columns" not in about
    assert read_token_file(token_parquet(META, rows(3)), "x").meta.columns == ()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "rows have the columns"),
        ({"indices_top": np.zeros((3, 6), np.int64)}, "rows have the columns"),
        ({"indices_top": np.zeros((3, 5), np.int64), "boxes": np.zeros((3, 5), np.int64)}, "5 indices_top a record do"),
        ({"indices_top": np.zeros((3, 6), np.int64), "boxes": np.full((3, 5), 20)}, "boxes lie from 20 to 20"),
        ({"indices_top": np.zeros((3, 6)), "boxes": np.zeros((3, 5), np.int64)}, "indices_top are integers"),
        ({"indices_top": np.zeros((2, 6), np.int64), "boxes": np.zeros((3, 5), np.int64)}, "not of one length"),
    ],
)
def test_columns_that_are_not_as_said_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenError, match=message):
        token_parquet(BOTH, replace(rows(3), columns=columns))


@pytest.mark.parametrize("name", ["key", "tokens", "labels", "indices", "Top", "a-b", ""])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TokenMeta.model_validate({**META.recipe(), "columns": [{**BOXES.recipe(), "name": name}]})


def test_a_batch_holds_the_columns_that_were_asked_for() -> None:
    tokens = dataset(told(53), told(53, view="flip"))
    batches, whole = tokens.batches("train", 8, seed=3), tokens.batches("train", 8, seed=3, columns=("boxes",))
    top = tokens.batches("train", 8, seed=3, target="indices_top", columns=("indices",))
    for step in range(9):
        plain, more, upper = batches.batch(step), whole.batch(step), top.batch(step)
        assert set(plain) == {"tokens", "labels"}
        assert torch.equal(more["tokens"], plain["tokens"])
        assert torch.equal(more["boxes"], plain["tokens"][:, 6:11] % 20)
        assert torch.equal(upper["indices"], plain["tokens"])
        assert torch.equal(upper["tokens"], plain["tokens"][:, :6] + 69_000)
        assert all(value.dtype == torch.int64 for batch in (plain, more, upper) for value in batch.values())
    passed = list(tokens.sequential("train", 20, columns=("indices_top",)))
    found = torch.cat([batch["indices_top"] for batch in passed])
    assert torch.equal(found, tokens.tokens("train", column="indices_top"))
    assert torch.equal(found.flatten() - 69_000, tokens.tokens("train")[:, :6].flatten())


def test_histograms_are_of_a_column() -> None:
    tokens = dataset(told(30))
    counts = tokens.code_histogram(column="boxes")
    assert torch.equal(counts, torch.bincount(tokens.tokens("train", column="boxes").flatten(), minlength=20))


def test_columns_that_are_not_there_are_named() -> None:
    tokens = dataset(told(5))
    message = "no column 'depth'; they have indices, indices_top, boxes"
    for ask in (
        lambda: tokens.tokens("train", column="depth"),
        lambda: tokens.batches("train", 2, seed=0, columns=("depth",)),
        lambda: next(tokens.sequential("train", 2, target="depth")),
        lambda: tokens.code_histogram(column="depth"),
    ):
        with pytest.raises(TokenError, match=message):
            ask()


def test_each_column_has_its_own_tokenizer() -> None:
    tokens = dataset(told(5))
    tokens.check_compatible("t" * 64, 70_000, "indices_top")
    with pytest.raises(TokenMismatch, match=r"these tokens \(indices_top\) were made by tokenizer tttttttttttt"):
        tokens.check_compatible("d" * 64, 512, "indices_top")
