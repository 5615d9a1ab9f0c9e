"""docs/formats.md names exactly the fields, columns and files that a fresh store has, and its examples run."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datasets.ingest.rows import TOMBSTONE_SCHEMA
from datasets.store import Draft, Store
from datasets.store.pointers import promote
from datasets.token_file import TokenColumn, TokenMeta, TokenRows, token_parquet
from tests import tiny
from tests.tiny import Published, Recorder, Stopped

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
TABLE = re.compile(r"^<!-- (\w+): (.+?) -->\n((?:\|.*\n)+)", re.MULTILINE)


def tables(sort: str) -> dict[str, list[list[str]]]:
    """The page's tables of a sort (names, columns, files) by subject: rows of cells, without the heading."""
    found = {}
    for kind, subject, text in TABLE.findall(PAGE.read_text(encoding="utf-8")):
        if kind == sort:
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
            assert subject not in found, f"two tables of {subject}"
            found[subject] = rows[2:]
    return found


def named(rows: list[list[str]]) -> list[str]:
    """First column, without its backticks."""
    assert all(re.fullmatch(r"`[^`]+`", row[0]) for row in rows), rows
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names)
    return names


def one(store: Path, pattern: str) -> Path:
    return sorted(store.glob(pattern))[0]


def member(shard: Path, suffix: str) -> Any:
    with tarfile.open(shard) as archive:
        name = next(name for name in archive.getnames() if name.endswith(suffix))
        content = archive.extractfile(name)
        assert content is not None
        return json.load(content)


def curves(path: Path) -> dict[str, Any]:
    """All fields of all lines: some appear only after the discriminator has started."""
    return {key: value for line in path.read_text().splitlines() for key, value in json.loads(line).items()}


def metadata(path: Path, key: bytes) -> Any:
    return json.loads(pq.read_schema(path).metadata[key])


def with_columns(store: Path) -> Path:
    """A token file with a further column, written beside the store."""
    (about,) = two_columns().columns
    rows = TokenRows(
        "train", "center", ["0"], [0], ["0"], np.zeros((1, 1), np.int64), {about.name: np.zeros((1, 1), np.int64)}
    )
    path = store.parent / "columns.parquet"
    path.write_bytes(token_parquet(two_columns(), rows))
    return path


def two_columns() -> TokenMeta:
    column = TokenColumn(name="edges", codebook_size=2, height=1, width=1)
    return TokenMeta(
        tokenizer_fingerprint="f", tokenizer_digest="d", codebook_size=2, factor=1, height=1, width=1, columns=(column,)
    )


def pointed() -> Any:
    """A pointer's entry, of a store in memory."""
    store = Store.open("memory://pointed")
    ref = store.publish(Draft("prior", "a" * 64, "train_prior", "1", {}, files={"a": b"1"}))
    promote(store, "digits", ref)
    return json.loads(store.storage.read("pointers/digits/000001.json"))


def loaded(pattern: str) -> Callable[[Path], Any]:
    return lambda store: json.loads(one(store, pattern).read_text())


#: Subject of a table of names → a value of the fresh store with those fields.
FRESH: dict[str, Callable[[Path], Any]] = {
    "manifest.json": loaded("tokenizer/*/manifest.json"),
    "part.json": loaded("parts/corpus/*/part.json"),
    "KEY.json of a corpus": lambda store: member(one(store, "parts/corpus/*/train-*.tar"), ".json"),
    "metadata of index.parquet": lambda store: metadata(one(store, "corpus/*/index.parquet"), b"tessera.corpus"),
    "classes.json": loaded("corpus/*/classes.json"),
    "config.json of a tokenizer": loaded("tokenizer/*/config.json"),
    "curves.jsonl of a tokenizer": lambda store: curves(one(store, "tokenizer/*/curves.jsonl")),
    "metadata of a token file": lambda store: metadata(one(store, "parts/tokens/*/*.parquet"), b"tessera.tokens"),
    "a further column of a token file": lambda store: metadata(with_columns(store), b"tessera.tokens")["columns"][0],
    "codes.json": loaded("tokens/*/codes.json"),
    "config.json of a prior": loaded("prior/*/config.json"),
    "curves.jsonl of a prior": lambda store: curves(one(store, "prior/*/curves.jsonl")),
    "KEY.json of samples": lambda store: member(one(store, "samples/*/samples-000000.tar"), ".json"),
    "a metric": lambda store: json.loads(one(store, "evaluation/*/metrics.json").read_text())[0],
    "classifier.json": loaded("evaluation/*/classifier.json"),
    "a claim": loaded("claims/*/000001.json"),
    "a pointer": lambda _: pointed(),
}
COLUMNS = {
    "index.parquet": "corpus/*/index.parquet",
    "quarantine.parquet": "corpus/*/quarantine.parquet",
    "entries-NNNNNN.parquet": "parts/corpus/*/entries-*.parquet",
    "a token file": "parts/tokens/*/train-000000-center.parquet",
}


def test_every_table_is_compared() -> None:
    assert set(tables("names")) == {*FRESH, "a checkpoint"}
    assert set(tables("columns")) == {*COLUMNS, "tombstones.parquet"}
    assert set(tables("files")) == {"corpus", "tokenizer", "tokens", "prior", "samples", "evaluation"}


@pytest.mark.parametrize("subject", FRESH)
def test_fields(published: Published, subject: str) -> None:
    assert sorted(named(tables("names")[subject])) == sorted(FRESH[subject](published.root))


def test_fields_of_a_checkpoint(published: Published, tmp_path: Path) -> None:
    config = published.without("tokenizer", tmp_path / "store").config
    with pytest.raises(Stopped):
        tiny.build(config, last="train_tokenizer", reporter=Recorder(stop_after=3))
    checkpoint = one(tmp_path / "store", "work/tokenizer/*/checkpoint-*.pt")
    assert re.fullmatch(r"checkpoint-\d{6}-step-\d{9}-[0-9a-f]{16}\.pt", checkpoint.name)
    content = torch.load(io.BytesIO(checkpoint.read_bytes()), weights_only=True)
    assert sorted(named(tables("names")["a checkpoint"])) == sorted(content)


@pytest.mark.parametrize("subject", COLUMNS)
def test_columns_and_their_types(published: Published, subject: str) -> None:
    rows = tables("columns")[subject]
    schema = pq.read_schema(one(published.root, COLUMNS[subject]))
    assert named(rows) == schema.names
    types = {"fixed_size_list<element: uint16>[16]": "fixed_size_list<uint16>[height·width]"}
    assert [row[1] for row in rows] == [types.get(str(field.type), str(field.type)) for field in schema]


def test_columns_of_tombstones() -> None:
    """Only a grown corpus has them."""
    assert [row[:2] for row in tables("columns")["tombstones.parquet"]] == [
        [f"`{field.name}`", str(field.type)] for field in TOMBSTONE_SCHEMA
    ]


def test_a_units_index_is_the_corpus_index_with_names_for_numbers(published: Published) -> None:
    unit = pq.read_schema(one(published.root, "parts/corpus/*/records-*.parquet"))
    corpus = pq.read_schema(one(published.root, COLUMNS["index.parquet"]))
    assert unit.names == corpus.names
    assert [name for name in unit.names if unit.field(name).type != corpus.field(name).type] == ["label"]


@pytest.mark.parametrize("kind", ["corpus", "tokenizer", "tokens", "prior", "samples", "evaluation"])
def test_files(published: Published, kind: str) -> None:
    manifest = json.loads(one(published.root, f"{kind}/*/manifest.json").read_text())
    names = {file["path"].rsplit("/", 1)[-1] for file in manifest["files"] + manifest["views"]}
    rows = tables("files")[kind]
    assert set(named(rows)) == {re.sub(r"\d{6}", "NNNNNN", name) for name in names}
    views = {row[0].strip("`") for row in rows if row[1].endswith("; a view")}
    assert views == {file["path"] for file in manifest["views"]}


def test_the_shown_manifest_has_the_form_of_a_real_one(published: Published) -> None:
    """Abridged: fewer entries, but no field more or less."""
    text = re.search(r"```json\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert text
    shown, real = json.loads(text[1]), FRESH["manifest.json"](published.root)
    assert set(shown) == set(real)
    for field in ("cost", "environment"):
        assert set(shown[field]) == set(real[field])
    for field in ("files", "inputs"):
        assert set(shown[field][0]) == set(real[field][0])
    assert set(shown["recipe"]) < set(real["recipe"])
    assert set(shown["summary"]["validation"]) < set(real["summary"]["validation"])


def test_the_layout_shows_every_folder(published: Published) -> None:
    layout = PAGE.read_text(encoding="utf-8").split("## The store")[1].split("## Fingerprint")[0]
    for folder in (*(path.name for path in published.root.iterdir()), "work", "records"):
        assert f"\n      {folder}/" in layout, folder


def test_the_examples_run(published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        source = example.replace("demo-store", str(published.root))
        exec(compile(source, str(PAGE), "exec"), {})  # noqa: S102 - our own page
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split(" ", 1)[1].startswith("(16, 16) ")
    assert shown[1:] == ["16 4", "480 (480, 4, 4) uint16"]
