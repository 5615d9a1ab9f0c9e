"""Contract: of images that look alike one stays, whatever order they come in, and every file is accounted for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datasets.config import FolderSource, NearDuplicates, ShardConfig
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import finish
from datasets.ingest.near_duplicates import left_out
from datasets.ingest.perceptual import perceptual_hash
from datasets.ingest.plan import plan_units
from datasets.sources import open_source
from tests.datasets.conftest import Ingested, ingest

NUM_SCENES = 12


def scene(number: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Something smooth, as photographs are."""
    small = np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def write_scenes(folder: Path) -> None:
    """Each scene as it is, smaller, compressed hard, and darker."""
    folder.mkdir()
    for number in range(NUM_SCENES):
        image = scene(number)
        image.save(folder / f"{number:02d}.png")
        image.resize((48, 40), Image.Resampling.LANCZOS).save(folder / f"{number:02d}-small.png")
        image.save(folder / f"{number:02d}-compressed.jpg", quality=30)
        image.point(lambda level: level * 0.8).save(folder / f"{number:02d}-dark.webp", quality=80)


def config_of(folder: Path, near: NearDuplicates | None, **values: Any) -> ShardConfig:
    return ShardConfig(
        source=FolderSource(url=str(folder)), size_px=32, images_per_shard=7, near_duplicates=near, **values
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "images"
    write_scenes(folder)
    return folder


@pytest.fixture(scope="module", params=["phash", "dhash"])
def ingested(folder: Path, pool: DecodePool, request: pytest.FixtureRequest) -> Ingested:
    return ingest(config_of(folder, NearDuplicates(hash=request.param, max_distance=6)), pool)


def greedily(hashes: np.ndarray, max_distance: int) -> dict[int, tuple[int, int]]:
    """The same by comparing all with all."""
    found: dict[int, tuple[int, int]] = {}
    for image, hash_ in enumerate(hashes.tolist()):
        for kept in range(image):
            distance = (hash_ ^ int(hashes[kept])).bit_count()
            if kept not in found and distance <= max_distance:
                found[image] = (kept, distance)
                break
    return found


@pytest.mark.parametrize("max_distance", range(9))
def test_no_near_pair_is_missed(max_distance: int) -> None:
    chance = np.random.default_rng(max_distance)
    centres = chance.integers(0, 2**64, 12, dtype=np.uint64)
    hashes = centres[chance.integers(0, 12, 300)]
    for _ in range(8):  # chains, too: near ones of near ones
        hashes = hashes ^ np.where(chance.random(300) < 0.5, 1 << chance.integers(0, 64, 300, dtype=np.uint64), 0)
    hashes = np.concatenate([hashes, hashes[:20]]).astype(np.uint64)
    expected = greedily(hashes, max_distance)
    assert left_out(hashes, max_distance) == expected
    assert max_distance == 0 or any(distance == max_distance for _, distance in expected.values())


def test_no_images_and_equal_images() -> None:
    assert left_out(np.zeros(0, np.uint64), 4) == {}
    assert left_out(np.zeros(3, np.uint64), 4) == {1: (0, 0), 2: (0, 0)}


def test_a_hash_is_that_of_the_library() -> None:
    gradient = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))
    assert perceptual_hash(gradient, "dhash") == 2**64 - 1  # every pixel is brighter than its left neighbour
    assert perceptual_hash(gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "dhash") == 0
    assert perceptual_hash(scene(1), "phash").bit_count() == 32  # half of the frequencies are above their median


def test_one_of_each_scene_stays_and_all_are_accounted_for(ingested: Ingested) -> None:
    summary = ingested.summary
    assert (summary["listed"], summary["kept"], summary["quarantined"]) == (4 * NUM_SCENES, NUM_SCENES, 0)
    assert summary["duplicates"] == summary["near_duplicates"] == summary["duplicates_in_shards"] == 3 * NUM_SCENES
    kept = pq.read_table(io.BytesIO(ingested.files["index.parquet"]))["source_path"].to_pylist()
    assert sorted(path[:2] for path in kept) == [f"{number:02d}" for number in range(NUM_SCENES)]
    for row in pq.read_table(io.BytesIO(ingested.files["quarantine.parquet"])).to_pylist():
        assert row["reason"] == "near_duplicate"
        distance, _, other = row["detail"].partition(" of 64 bits away from ")
        assert int(distance) <= 6
        assert other in kept
        assert other[:2] == row["path"][:2]


def test_units_may_be_done_in_any_order(folder: Path, pool: DecodePool, ingested: Ingested) -> None:
    near = NearDuplicates(hash="phash", max_distance=6)
    config = config_of(folder, near)
    whole = ingest(config, pool)
    backwards = finish(whole.listing, reversed(whole.results), config)
    assert all(whole.files[name] == data for name, data in backwards.files.items())
    assert ingest(config, pool).files == whole.files


def test_files_of_the_same_bytes_are_told_apart_from_those_that_look_alike(folder: Path, pool: DecodePool) -> None:
    near = NearDuplicates(max_distance=6)
    twin = folder.parent / "twins"
    twin.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        scene(0).save(twin / name)
    scene(0).save(twin / "c.jpg", quality=50)
    scene(1).save(twin / "d.png")
    summary = ingest(config_of(twin, near, validation_fraction=0), pool).summary
    assert (summary["listed"], summary["kept"], summary["duplicates"], summary["near_duplicates"]) == (4, 2, 2, 1)


def test_without_the_option_nothing_changes(folder: Path, pool: DecodePool) -> None:
    plain, near = config_of(folder, None), config_of(folder, NearDuplicates())
    assert "near_duplicates" not in plain.recipe()
    listing = open_source(plain.source).list()
    keys = [unit.key for unit in plan_units(listing, plain)]
    assert keys != [unit.key for unit in plan_units(listing, near)]
    # Another distance needs no new hash, and so no new unit.
    wide = config_of(folder, NearDuplicates(max_distance=8))
    assert [unit.key for unit in plan_units(listing, wide)] == [unit.key for unit in plan_units(listing, near)]
    assert wide.recipe() != near.recipe()
    result = ingest(plain, pool)
    assert result.summary["kept"] == 4 * NUM_SCENES
    records = pq.read_schema(io.BytesIO(result.results[0].to_files()["records-000000.parquet"]))
    assert "perceptual_hash" not in records.names
