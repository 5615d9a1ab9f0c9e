"""Contract: near duplicates as a corpus grows, shrinks and is compacted; what was a record stays one."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datasets.ingest.decode_pool import DecodePool
from datasets.store import Artifact, Store
from tasks import compact
from tasks.config import PipelineConfig
from tasks.stage import execute
from tests.datasets.ingest.test_near_duplicates import scene
from tests.tasks.test_growth import _one_pool, pool
from tests.tiny import build, tiny_config

__all__ = ["_one_pool", "pool"]


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        scene(number).save(folder / f"{number}.png")
    near = {"shard__near_duplicates__max_distance": 6, "shard__size_px": 32}
    return tiny_config(tmp_path / "store", folder, shard__images_per_shard=3, **near)


def kept(artifact: Artifact) -> set[str]:
    return set(pq.read_table(io.BytesIO(artifact.read("index.parquet")))["source_path"].to_pylist())


def corpus_of(config: PipelineConfig) -> Artifact:
    return build(config, "shard")["corpus"]


def test_what_comes_later_takes_no_record_away(config: PipelineConfig, tmp_path: Path, pool: DecodePool) -> None:
    images = tmp_path / "images"
    first = corpus_of(config)
    assert kept(first) == {f"{number}.png" for number in range(8)}
    for number in (*range(8), 20):
        scene(number).save(images / f"{number}-again.jpg", quality=85)
        scene(number).resize((50, 40)).save(images / f"{number}-small.png")
    second = corpus_of(config)
    summary = second.manifest.summary
    assert kept(first) < kept(second)
    assert (summary["listed"], summary["kept"], summary["near_duplicates"]) == (26, 9, 17)
    (images / "3.png").unlink()
    third = corpus_of(config)
    assert third.manifest.summary["new"] == 0
    assert len(kept(third) & {"3-again.jpg", "3-small.png"}) == 1
    assert third.manifest.summary["kept"] == 9
    for path in images.glob("*-*"):
        path.unlink()
    scene(3).save(images / "3.png")
    assert corpus_of(config).ref == first.ref


def test_a_compacted_corpus_is_the_fresh_one(config: PipelineConfig, tmp_path: Path, pool: DecodePool) -> None:
    images = tmp_path / "images"
    corpus_of(config)
    for number in range(4, 12):
        scene(number).save(images / f"{number}-again.jpg", quality=85)
    grown = corpus_of(config)
    values = {"shard__images_per_shard": 3, "shard__near_duplicates__max_distance": 6, "shard__size_px": 32}
    fresh = corpus_of(tiny_config(tmp_path / "other", images, **values))
    store = Store.open(config.store)
    compacted = store.get(execute(compact.request(grown), store))
    assert compacted.manifest.digest == fresh.manifest.digest
    assert compacted.manifest.summary == fresh.manifest.summary
