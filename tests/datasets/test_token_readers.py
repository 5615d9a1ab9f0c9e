"""Contract: token files are plain Parquet for readers that know nothing of us: DuckDB and polars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datasets.token_file import TokenColumn, TokenMeta, TokenRows, token_parquet

ABOUT = TokenMeta(
    tokenizer_fingerprint="f" * 64, tokenizer_digest="d" * 64, codebook_size=16384, factor=8, height=2, width=3,
    class_names=("a", "b"),
)  # fmt: skip
KEYS = [f"{i:032x}" for i in range(50)]


def indices(codes: int) -> np.ndarray:
    drawn = np.random.default_rng(1).integers(0, codes, (50, 6))
    drawn[0, :2] = (0, codes - 1)
    return drawn


@pytest.fixture(params=[16384, 65536, 100_000], ids=["dictionary", "byte_stream_split", "uint32"])
def codes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def path(tmp_path: Path, codes: int) -> Path:
    rows = TokenRows("train", "center", KEYS, [i % 2 for i in range(50)], KEYS, indices(codes))
    data = token_parquet(ABOUT.model_copy(update={"codebook_size": codes}), rows)
    (tmp_path / "train-000000-center.parquet").write_bytes(data)
    return tmp_path / "train-000000-center.parquet"


def test_duckdb(path: Path, codes: int) -> None:
    duckdb = pytest.importorskip("duckdb")
    read = duckdb.sql(f"SELECT key, label, height * width, indices FROM '{path}' ORDER BY key").fetchall()  # noqa: S608 - our own path
    assert [row[0] for row in read] == KEYS
    assert {row[2] for row in read} == {6}
    assert np.array_equal([row[3] for row in read], indices(codes))
    top = duckdb.sql(f"SELECT indices[1], count(*) FROM '{path}' GROUP BY 1 ORDER BY 1").fetchall()  # noqa: S608 - as above
    assert dict(top) == dict(zip(*np.unique(indices(codes)[:, 0], return_counts=True), strict=True))
    found = duckdb.sql(f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{path}')").fetchall()  # noqa: S608 - as above
    assert json.loads(dict(found)["tessera.tokens"])["codebook_size"] == codes


def test_polars(path: Path, codes: int) -> None:
    polars = pytest.importorskip("polars")
    read = polars.read_parquet(path)
    assert read["key"].to_list() == KEYS
    assert read.schema["indices"] == polars.Array(polars.UInt16 if codes <= 65536 else polars.UInt32, 6)
    assert np.array_equal(read["indices"].to_numpy(), indices(codes))
    grouped = read.group_by("label").agg(polars.col("indices").arr.first().max()).sort("label")
    assert grouped["indices"].to_list() == [indices(codes)[start::2, 0].max() for start in (0, 1)]
    assert json.loads(polars.read_parquet_metadata(path)["tessera.tokens"])["class_names"] == ["a", "b"]


def test_condition_columns_stand_beside_the_indices(tmp_path: Path) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    edges = np.random.default_rng(2).integers(0, 70_000, (50, 4))
    column = TokenColumn(name="edges", codebook_size=70_000, height=2, width=2)
    about = ABOUT.model_copy(update={"columns": (column,)})
    rows = TokenRows("val", "center", KEYS, [-1] * 50, KEYS, indices(16384), {"edges": edges})
    (tmp_path / "val-000000-center.parquet").write_bytes(token_parquet(about, rows))
    path = str(tmp_path / "*.parquet")
    read = duckdb.sql(f"SELECT edges, indices FROM '{path}' ORDER BY key").fetchall()  # noqa: S608 - our own path
    assert np.array_equal([row[0] for row in read], edges)
    frame = polars.read_parquet(path).sort("key")
    assert frame.schema["edges"] == polars.Array(polars.UInt32, 4)
    assert np.array_equal(frame["edges"].to_numpy(), edges)
    assert np.array_equal(frame["indices"].to_numpy(), [row[1] for row in read])
