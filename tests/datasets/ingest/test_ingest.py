"""Contract: every file of a source is accounted for, and the same source gives the same bytes, however it is run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datasets.config import FolderSource, ShardConfig, ShardExecution
from datasets.errors import IngestError, SourceChanged
from datasets.files import MemoryFiles
from datasets.ingest.build import UnitResult, build_unit, split_of
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import finish
from datasets.ingest.plan import plan_units
from datasets.ingest.rows import INDEX_SCHEMA, from_parquet
from datasets.sources import open_source
from tests.datasets.conftest import Ingested, ingest
from tests.datasets.images import png


def table(files: dict[str, bytes], name: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(io.BytesIO(files[name])).to_pylist()
    return rows


def write(root: Path, files: dict[str, bytes]) -> ShardConfig:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return ShardConfig(source=FolderSource(url=str(root)), size_px=16, images_per_shard=7, validation_fraction=0.2)


@pytest.fixture
def animals(tmp_path: Path) -> ShardConfig:
    return write(tmp_path, {f"{'cat' if i % 2 else 'dog'}/{i:02d}.png": png(i) for i in range(20)})


def account(summary: dict[str, int]) -> tuple[int, int, int, int]:
    return summary["listed"], summary["kept"], summary["quarantined"], summary["duplicates"]


class TestDigits:
    """The demo's corpus."""

    def test_all_are_kept(self, digits: Ingested) -> None:
        assert account(digits.summary) == (1797, 1797, 0, 0)
        assert digits.summary["num_classes"] == 10
        assert sum(digits.summary["splits"].values()) == 1797
        assert 0.03 < digits.summary["splits"]["val"] / 1797 < 0.07
        assert digits.summary["num_shards"] == 6

    def test_the_index_leads_to_every_image(self, digits: Ingested) -> None:
        rows = table(digits.files, "index.parquet")
        assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)  # type: ignore[type-var]
        for row in rows[::50]:
            shard = digits.files[str(row["shard"])]
            image = shard[int(str(row["offset"])) :][: int(str(row["bytes"]))]
            assert hashlib.sha256(image).hexdigest() == row["sha256"]
            assert row["key"] == str(row["source_sha256"])[:32]

    def test_a_shard_mixes_classes(self, digits: Ingested) -> None:
        first = [row["label"] for row in table(digits.files, "index.parquet") if row["shard"] == "train-000000.tar"]
        assert len(Counter(first)) == 10
        assert max(Counter(first).values()) < 0.2 * len(first)


def test_the_same_source_gives_the_same_bytes(animals: ShardConfig, pool: DecodePool) -> None:
    first = ingest(animals, pool)
    with DecodePool(ShardExecution(num_processes=1)) as other:
        assert ingest(animals, other).files == first.files
    later = animals.model_copy(update={"execution": ShardExecution(num_processes=3, decode_timeout_seconds=5)})
    assert [u.key for u in plan_units(first.listing, later)] == [u.key for u in plan_units(first.listing, animals)]


def test_a_unit_key_names_what_its_bytes_depend_on(animals: ShardConfig) -> None:
    listing = open_source(animals.source).list()
    keys = {unit.key for unit in plan_units(listing, animals)}
    assert len(keys) == 3
    assert sum(len(unit.entries) for unit in plan_units(listing, animals)) == 20
    for change in ({"size_px": 17}, {"validation_fraction": 0.3}, {"background": (0, 0, 0)}):
        assert not keys & {unit.key for unit in plan_units(listing, animals.model_copy(update=change))}
    assert keys == {u.key for u in plan_units(listing, animals.model_copy(update={"max_bad_fraction": 0.1}))}
    assert [u.index for u in plan_units(listing, animals, first_index=5)] == [5, 6, 7]


def test_order_of_a_listing_does_not_matter(animals: ShardConfig) -> None:
    entries = list(open_source(animals.source).list())
    assert list(plan_units(entries, animals)) == list(plan_units(entries[::-1], animals))


def test_a_stored_unit_is_finished_like_a_fresh_one(animals: ShardConfig, pool: DecodePool) -> None:
    fresh = ingest(animals, pool)
    stored = []
    for unit, result in zip(plan_units(fresh.listing, animals), fresh.results, strict=True):
        files = MemoryFiles(result.to_files())
        stored.append(UnitResult.from_files(unit, files.read))
    assert finish(fresh.listing, stored[::-1], animals).files.items() <= fresh.files.items()


def test_locations_of_shards_go_into_the_index(animals: ShardConfig, pool: DecodePool) -> None:
    fresh = ingest(animals, pool)
    moved = {name: f"../../parts/shards/abc/{name}" for result in fresh.results for name in result.files}
    files = finish(fresh.listing, fresh.results, animals, moved).files
    assert {row["shard"] for row in table(files, "index.parquet")} == set(moved.values())


def test_broken_images_among_good_ones(tmp_path: Path, pool: DecodePool) -> None:
    good = {f"a/{i}.png": png(i) for i in range(9)}
    bad = {
        "a/cut.png": png(50)[:200],
        "a/empty.png": b"",
        "a/page.jpg": b"<html>not found</html>",
        "b/tiny.png": png(51, (3, 30)),
        "b/long.png": png(52, (300, 10)),
        "b/notes.txt": b"hello",
    }
    result = ingest(write(tmp_path, good | bad), pool)
    assert account(result.summary) == (15, 9, 6, 0)
    rows = {row["path"]: row for row in table(result.files, "quarantine.parquet")}
    assert {path: row["reason"] for path, row in rows.items()} == {
        "a/cut.png": "undecodable",
        "a/empty.png": "empty",
        "a/page.jpg": "not_an_image",
        "b/tiny.png": "too_small",
        "b/long.png": "extreme_aspect",
        "b/notes.txt": "wrong_extension",
    }
    for path, data in bad.items():
        assert rows[path]["checksum"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert (rows[path]["sha256"] is None) == (path == "b/notes.txt"), "only what was left out by name was not read"
    assert result.summary["reasons"]["wrong_extension"] == 1
    assert result.summary["classes"] == {"a": 9}
    assert result.summary["classes_without_images"] == ["b"]
    assert json.loads(result.files["classes.json"]) == {"classes": ["a"]}


def test_equal_files_are_kept_once_within_and_across_units(tmp_path: Path, pool: DecodePool) -> None:
    files = {f"a/{i}.png": png(i % 10) for i in range(30)}
    config = write(tmp_path, files | {"b/same.png": png(0)})
    result = ingest(config, pool)
    assert account(result.summary) == (31, 10, 0, 21)
    rows = table(result.files, "quarantine.parquet")
    assert {row["reason"] for row in rows} == {"duplicate"}
    assert all("same bytes as" in str(row["detail"]) for row in rows)
    assert sum("its label is" in str(row["detail"]) for row in rows) >= 1  # one file, two classes: said, not hidden
    within = sum(row.reason == "duplicate" for unit in result.results for row in unit.quarantined)
    assert 0 < within < 21
    assert result.summary["duplicates_in_shards"] == 21 - within
    keys = [row["key"] for row in table(result.files, "index.parquet")]
    assert len(keys) == len(set(keys)) == 10


def test_the_split_of_an_image_depends_on_nothing_else(tmp_path: Path, pool: DecodePool) -> None:
    keys = [f"{i:032x}" for i in range(20000)]
    share = sum(split_of(key, 0.05) == "val" for key in keys) / len(keys)
    assert 0.045 < share < 0.055
    assert all(split_of(key, 0.0) == "train" for key in keys[:100])
    small = {key for key in keys if split_of(key, 0.05) == "val"}
    assert small <= {key for key in keys if split_of(key, 0.1) == "val"}  # a larger share keeps the smaller's images
    few = ingest(write(tmp_path / "few", {f"{i}.png": png(i) for i in range(12)}), pool)
    many = ingest(write(tmp_path / "many", {f"x/{i}.png": png(i) for i in range(24)}), pool)
    before = {row["key"]: row["split"] for row in table(few.files, "index.parquet")}
    after = {row["key"]: row["split"] for row in table(many.files, "index.parquet")}
    assert before.items() <= after.items()


def test_nothing_usable_too_much_bad_and_nothing_for_training(tmp_path: Path, pool: DecodePool) -> None:
    bad = {f"{i}.png": b"junk %d" % i for i in range(3)}
    with pytest.raises(IngestError, match=r"no image of the source can be used \(3 not_an_image; for example 0.png"):
        ingest(write(tmp_path / "a", bad), pool)
    config = write(tmp_path / "b", bad | {"good.png": png(1), "c.txt": b"", "d.txt": b"", "e.txt": b""})
    with pytest.raises(IngestError, match=r"3 of 4 images cannot be used, more than max_bad_fraction 0.5 allows"):
        ingest(config, pool)
    assert ingest(config.model_copy(update={"max_bad_fraction": 0.75}), pool).summary["kept"] == 1
    one = write(tmp_path / "c", {"good.png": png(1)}).model_copy(update={"validation_fraction": 0.9999})
    with pytest.raises(IngestError, match="all 1 usable images fell into validation"):
        ingest(one, pool)


def test_a_source_that_changes_while_it_is_read(animals: ShardConfig, tmp_path: Path, pool: DecodePool) -> None:
    source = open_source(animals.source)
    unit = next(plan_units(source.list(), animals))
    (tmp_path / unit.entries[3].path).write_bytes(png(999))
    with pytest.raises(SourceChanged):
        build_unit(unit, source, animals, pool)


def test_progress_counts_every_image(animals: ShardConfig, pool: DecodePool) -> None:
    source, seen = open_source(animals.source), list[int]()
    build_unit(next(plan_units(source.list(), animals)), source, animals, pool, seen.append)
    assert seen == list(range(1, 8))


@pytest.mark.parametrize(("format_", "extension"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_webdataset_reads_our_shards(
    tmp_path: Path,
    animals: ShardConfig,
    pool: DecodePool,
    format_: str,
    extension: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(webdataset.utils, "enforce_security", True)  # what WDS_SECURE=1 sets at import
    result = ingest(animals.model_copy(update={"format": format_}), pool)
    shards = {name: data for name, data in result.files.items() if name.endswith(".tar")}
    out = tmp_path / "shards"
    out.mkdir()
    for name, data in shards.items():
        (out / name).write_bytes(data)
    seen = {}
    names = [os.fspath(out / name) for name in sorted(shards)]
    for sample in webdataset.WebDataset(names, shardshuffle=False).decode("rgb8"):
        seen[sample["__key__"]] = (sample["json"]["label"], sample[extension].shape)
    rows = {row["key"]: row for row in table(result.files, "index.parquet")}
    names_of_classes = result.listing.class_names
    assert seen == {key: (names_of_classes[int(str(row["label"]))], (16, 16, 3)) for key, row in rows.items()}


def test_tarfile_reads_our_shards_and_their_sidecars(digits: Ingested) -> None:
    with tarfile.open(fileobj=io.BytesIO(digits.files["val-000001.tar"])) as tar:
        names = tar.getnames()
        assert names == sorted(names, key=lambda name: (name[:32], not name.endswith(".png")))
        about = json.load(tar.extractfile(names[1]))  # type: ignore[arg-type] # a regular member
    assert set(about) == {"label", "source_path", "source_sha256", "width", "height"}
    assert (about["label"] in "0123456789", about["width"]) == (True, 32)


def test_tables_survive_their_parquet(digits: Ingested) -> None:
    result = digits.results[0]
    files = result.to_files()
    assert pq.read_schema(io.BytesIO(files["records-000000.parquet"])).equals(INDEX_SCHEMA)
    kind = type(result.records[0])
    assert tuple(from_parquet(files["records-000000.parquet"], kind)) == result.records
