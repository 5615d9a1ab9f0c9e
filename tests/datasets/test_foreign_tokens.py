"""Contract: foreign tokens come in as they are or not at all, under keys that do not depend on where they lie."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.config import ImportTokensConfig
from datasets.errors import TokenError
from datasets.files import MemoryFiles
from datasets.foreign_tokens import ForeignTokens, list_parquet
from datasets.token_file import TokenMeta, TokenRows, token_parquet
from datasets.tokens import TokenDataset

GRIDS = np.random.default_rng(0).integers(0, 50, (40, 3, 4))
FLAT = pa.list_(pa.int64())


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def config(url: Path, **fields: Any) -> ImportTokensConfig:
    return ImportTokensConfig(codebook_size=50, **fields).at(str(url))


def imported(wanted: ImportTokensConfig) -> TokenDataset:
    tokens = ForeignTokens(list_parquet(wanted.execution.url), wanted)
    files = {name: data for i in range(len(tokens.files)) for name, data in tokens.convert(i).items()}
    return TokenDataset(MemoryFiles(files), files)


def rows_of(tokens: TokenDataset) -> list[list[int]]:
    return sorted(row for split in tokens.splits for row in tokens.tokens(split).tolist())


@pytest.mark.parametrize(
    "column",
    [
        pa.array([grid.reshape(-1).tolist() for grid in GRIDS], pa.list_(pa.int64())),
        pa.array([grid.reshape(-1).tolist() for grid in GRIDS], pa.large_list(pa.int32())),
        pa.FixedSizeListArray.from_arrays(pa.array(GRIDS.reshape(-1), pa.uint16()), 12),
        pa.array(GRIDS.tolist(), pa.list_(pa.list_(pa.int16()))),
    ],
    ids=["list", "large_list", "fixed_size_list", "nested"],
)
def test_every_way_to_write_a_grid_is_read(tmp_path: Path, column: pa.Array) -> None:
    tokens = imported(config(write(tmp_path / "t.parquet", indices=column), grid=(3, 4)))
    assert rows_of(tokens) == sorted(GRIDS.reshape(40, 12).tolist())
    assert (tokens.meta.height, tokens.meta.width, tokens.meta.codebook_size, tokens.meta.factor) == (3, 4, 50, 1)
    assert set(tokens.splits) == {"train", "val"}


def test_nested_rows_say_their_grid(tmp_path: Path) -> None:
    tokens = imported(config(write(tmp_path / "t.parquet", indices=GRIDS.tolist())))
    assert (tokens.meta.height, tokens.meta.width) == (3, 4)


def test_slices_of_a_table_are_not_mixed_up(tmp_path: Path) -> None:
    table = pa.table({"indices": pa.array(GRIDS.reshape(40, 12).tolist(), FLAT), "key": [f"{i}" for i in range(40)]})
    pq.write_table(table.slice(7, 20), tmp_path / "t.parquet", row_group_size=6)
    tokens = imported(config(tmp_path / "t.parquet", grid=(3, 4)))
    assert rows_of(tokens) == sorted(GRIDS[7:27].reshape(20, 12).tolist())


def test_labels_splits_and_keys_are_taken_over(tmp_path: Path) -> None:
    names = [f"photo {i}" for i in range(40)]
    labels = [("cat", "ant", "dog")[i % 3] for i in range(40)]
    splits = ["validation" if i < 10 else "train" for i in range(40)]
    indices = pa.array(GRIDS.reshape(40, 12).tolist(), FLAT)
    path = write(tmp_path / "t.parquet", codes=indices, name=names, class_=labels, part=splits)
    tokens = imported(
        config(path, grid=(3, 4), indices_column="codes", key_column="name", label_column="class_", split_column="part")
    )
    assert tokens.meta.class_names == ("ant", "cat", "dog")
    assert tokens.splits == {"train": 30, "val": 10}
    for split, numbers in (("val", range(10)), ("train", range(10, 40))):
        keys = {hashlib.sha256(names[i].encode()).hexdigest()[:32]: i for i in numbers}
        assert tokens.keys(split) == sorted(keys)
        order = [keys[key] for key in tokens.keys(split)]
        assert tokens.tokens(split).tolist() == GRIDS[order].reshape(-1, 12).tolist()
        assert [tokens.meta.class_names[n] for n in tokens.labels(split)] == [labels[i] for i in order]


def test_a_hash_stays_the_key(tmp_path: Path) -> None:
    keys = [f"{i * 0x9E3779B97F4A7C15:032x}" for i in range(40)]
    path = write(tmp_path / "t.parquet", indices=GRIDS.tolist(), key=keys)
    assert sorted(key for split in ("train", "val") for key in imported(config(path)).keys(split)) == sorted(keys)


def test_numbered_classes_have_numbers_for_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", indices=GRIDS.tolist(), label=[i % 3 if i else -1 for i in range(40)])
    assert imported(config(path)).meta.class_names == ("0", "1", "2")
    assert imported(config(path, class_names=("a", "b", "c", "d"))).meta.class_names == ("a", "b", "c", "d")


def test_a_folder_is_known_by_its_files_and_not_by_its_place(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / "here" / f"{i}.parquet", indices=GRIDS[i * 10 : i * 10 + 10].tolist())
    (tmp_path / "here" / "README").write_text("no tokens")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    first, second = (list_parquet(str(tmp_path / name)) for name in ("here", "there"))
    assert [(file.path, file.checksum) for file in first] == [(file.path, file.checksum) for file in second]
    assert rows_of(imported(config(tmp_path / "here"))) == sorted(GRIDS[:30].reshape(30, 12).tolist())
    keys = [ForeignTokens(files, config(tmp_path)).key(files[0], "1") for files in (first, second)]
    assert keys[0] == keys[1] != ForeignTokens(first, config(tmp_path, validation_fraction=0.5)).key(first[0], "1")


def test_our_own_files_stay_byte_for_byte(tmp_path: Path) -> None:
    meta = TokenMeta(
        tokenizer_fingerprint="f" * 64, tokenizer_digest="d" * 64, codebook_size=50, factor=4, height=3, width=4
    )
    keys = [f"{i:032x}" for i in range(40)]
    rows = TokenRows("val", "center_flip", keys, [0] * 40, keys, GRIDS.reshape(40, 12))
    data = token_parquet(meta, rows)
    (tmp_path / "any name.parquet").write_bytes(data)
    wanted = ImportTokensConfig().at(str(tmp_path))
    tokens = ForeignTokens(list_parquet(wanted.execution.url), wanted)
    assert tokens.meta == meta
    assert tokens.convert(0) == {"val-000000-center_flip.parquet": data}
    for field, value in (("codebook_size", 51), ("grid", (4, 3)), ("tokenizer_digest", "e" * 64), ("factor", 2)):
        with pytest.raises(TokenError, match=field):
            ForeignTokens(tokens.files, ImportTokensConfig(**{field: value}))


@pytest.mark.parametrize(
    ("columns", "fields", "words"),
    [
        ({"codes": [[1]]}, {}, "no column 'indices', only codes"),
        ({"indices": [[1, 2]]}, {}, "give grid"),
        ({"indices": [[[1, 2]], [[1]]]}, {}, "do not fill a grid of 1×2"),
        ({"indices": [[1, 2], [1, 2, 3]]}, {"grid": (1, 2)}, "lists of 2, 3 indices"),
        ({"indices": [[1, 50]]}, {"grid": (1, 2)}, "a codebook of 50 entries has 0 to 49"),
        ({"indices": [[1, -1]]}, {"grid": (1, 2)}, "from -1 to 1"),
        ({"indices": [[1.0, 2.0]]}, {"grid": (1, 2)}, "expected lists of integers"),
        ({"indices": [[1, None]]}, {"grid": (1, 2)}, "without gaps"),
        ({"indices": [1, 2]}, {"grid": (1, 1)}, "expected lists of integers"),
        ({"indices": [[1]], "split": ["dev"]}, {"grid": (1, 1)}, "the split 'dev'"),
        ({"indices": [[1]], "label": [3]}, {"grid": (1, 1), "class_names": ("a",)}, "the label 3"),
        ({"indices": [[1]], "label": ["b"]}, {"grid": (1, 1), "class_names": ("a",)}, "the label 'b'"),
        ({"indices": [[1], [2]], "key": ["a", "a"]}, {"grid": (1, 1)}, "comes twice"),
        ({"indices": [[1], [2]], "key": ["a", None]}, {"grid": (1, 1)}, "missing values"),
    ],
)
def test_what_is_no_token_dataset_is_refused(
    tmp_path: Path, columns: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "t.parquet", **columns)
    with pytest.raises(TokenError, match=words):
        imported(config(path, **fields))


def test_nothing_is_guessed_and_nothing_else_is_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", indices=GRIDS.tolist())
    with pytest.raises(TokenError, match="give codebook_size"):
        imported(ImportTokensConfig().at(str(path)))
    with pytest.raises(TokenError, match="has no Parquet file"):
        list_parquet(str(write(tmp_path / "empty" / "x.txt", a=[1]).parent))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(TokenError, match="is no Parquet file"):
        imported(config(tmp_path / "broken.parquet"))
    buffer = io.BytesIO(path.read_bytes())
    (tmp_path / "cut.parquet").write_bytes(buffer.read()[:-20])
    with pytest.raises(TokenError, match="is no Parquet file"):
        imported(config(tmp_path / "cut.parquet"))
