"""Contract: corpora with second files grow as others do; an image whose second file changed is another image."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from datasets.config import FolderSource, ShardConfig, ShardExecution, StoreConfig
from datasets.pair_config import FilesPair, ValueMaps
from datasets.store import Artifact, Store
from tasks import shard
from tasks.stage import execute, input_of
from tests.datasets.images import png


def test_growth_of_a_corpus_with_second_files(tmp_path: Path) -> None:
    write(tmp_path, range(8))
    store, config = Store.open(StoreConfig(url=str(tmp_path / "store"))), config_of(tmp_path)
    first = store.get(execute(shard.request(config), store))
    write(tmp_path, range(20, 22))
    (tmp_path / "maps" / "003.png").write_bytes(png(77, (20, 20), "L"))
    second = store.get(execute(shard.request(config, parent=input_of(first)), store))
    assert second.manifest.summary["new"] == 3
    assert tombstones(second) == [("003.png", "changed")]
    assert rows(second).keys() == rows(first).keys() | {"020.png", "021.png"}
    old, new = rows(first), rows(second)
    assert all(new[path] == row for path, row in old.items() if path != "003.png")
    assert new["003.png"]["planes"] != old["003.png"]["planes"]


def write(root: Path, numbers: range) -> None:
    for number in numbers:
        for folder, seed in (("images", number), ("maps", 100 + number)):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{number:03d}.png").write_bytes(png(seed, (20, 20), "L"))


def config_of(root: Path) -> ShardConfig:
    pair = FilesPair(url=str(root / "maps"), holds=ValueMaps())
    return ShardConfig(
        source=FolderSource(url=str(root / "images")),
        size_px=16,
        channels=1,
        validation_fraction=0.1,
        pairs={"depth": pair},
        execution=ShardExecution(num_processes=1),
    )


def rows(artifact: Artifact) -> dict[str, dict[str, Any]]:
    table = pq.read_table(io.BytesIO(artifact.read("index.parquet"))).to_pylist()
    return {row["source_path"]: {**row, "shard": None} for row in table}


def tombstones(artifact: Artifact) -> list[tuple[str, str]]:
    table = pq.read_table(io.BytesIO(artifact.read("tombstones.parquet"))).to_pylist()
    return [(row["path"], row["reason"]) for row in table]
