"""Contract: a grown source costs what is new; what was published stays byte for byte, and nothing is lost or moved."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from datasets.config import FolderSource, ShardExecution
from datasets.corpus import Corpus
from datasets.errors import CorpusError, IngestError
from datasets.ingest.build import split_of
from datasets.ingest.decode_pool import DecodePool
from datasets.store import Artifact, Store, fingerprint
from datasets.tokens import TokenDataset
from tasks import compact, encode, shard
from tasks.config import PipelineConfig
from tasks.generations import find_parent
from tasks.pipeline import Pipeline
from tasks.stage import Headway, execute
from tests.datasets.images import png
from tests.s3_server import Faults, faults, moto_endpoint, s3_url
from tests.tiny import build, tiny_config

__all__ = ["faults", "moto_endpoint", "s3_url"]

SMALL = {"shard__images_per_shard": 10, "tokenizer__training__num_steps": 1}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """One child that decodes for all of these tests: starting one a corpus would take most of the time."""
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _one_pool(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "DecodePool", lambda _execution: nullcontext(pool))


def write(folder: Path, numbers: range, label: str = "a") -> None:
    for number in numbers:
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:03d}.png").write_bytes(png(number, (20, 20), "L"))


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    """Forty images, and a store that has their corpus."""
    write(tmp_path / "images", range(30))
    write(tmp_path / "images", range(30, 40), "b")
    return tiny_config(tmp_path / "store", tmp_path / "images", **SMALL)


@pytest.fixture
def images(config: PipelineConfig) -> Path:
    assert isinstance(config.shard.source, FolderSource)
    return Path(config.shard.source.url)


def corpus_of(config: PipelineConfig) -> Artifact:
    return build(config, "shard")["corpus"]


def rows(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(io.BytesIO(artifact.read(name))).to_pylist()
    return table


def index(artifact: Artifact) -> dict[str, dict[str, Any]]:
    return {row["source_path"]: row for row in rows(artifact, "index.parquet")}


def shared_files(artifact: Artifact) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in artifact.manifest.files if entry.path.startswith("..")}


def account(artifact: Artifact) -> tuple[int, int, int, int]:
    summary = artifact.manifest.summary
    return tuple(summary[name] for name in ("listed", "kept", "quarantined", "duplicates"))  # type: ignore[return-value]  # four names


class TestGenerations:
    """What becomes of a corpus when its source grows, shrinks and changes."""

    def test_old_shards_stay_and_only_new_images_are_added(self, config: PipelineConfig, images: Path) -> None:
        first = corpus_of(config)
        write(images, range(100, 104))
        second = corpus_of(config)
        assert shared_files(first).items() < shared_files(second).items()
        assert second.manifest.summary["new"] == 4
        assert second.manifest.summary["generation"] == 2
        assert account(second) == (44, 44, 0, 0)
        added = {row["source_path"] for row in rows(second, "index.parquet")} - index(first).keys()
        assert added == {f"a/{number}.png" for number in range(100, 104)}
        assert all(index(second)[path] == row for path, row in index(first).items())

    def test_an_image_never_changes_its_split(self, config: PipelineConfig, images: Path) -> None:
        made = [corpus_of(config)]
        for start in (100, 200):
            write(images, range(start, start + 12))
            made.append(corpus_of(config))
        assert [artifact.manifest.summary["generation"] for artifact in made[1:]] == [2, 3]
        for artifact in made:
            for row in rows(artifact, "index.parquet"):
                assert row["split"] == split_of(row["key"], config.shard.validation_fraction)

    def test_a_deletion_is_a_tombstone_and_a_return_is_no_new_image(self, config: PipelineConfig, images: Path) -> None:
        first = corpus_of(config)
        (images / "a" / "003.png").rename(images.parent / "kept.png")
        (images / "a" / "004.png").write_bytes(png(999, (20, 20), "L"))
        second = corpus_of(config)
        assert [(row["path"], row["reason"]) for row in rows(second, "tombstones.parquet")] == [
            ("a/003.png", "deleted"),
            ("a/004.png", "changed"),
        ]
        assert account(second) == (39, 39, 0, 0)
        assert second.manifest.summary["new"] == 1
        assert index(second)["a/004.png"]["key"] != index(first)["a/004.png"]["key"]
        (images.parent / "kept.png").rename(images / "a" / "003.png")
        third = corpus_of(config)
        assert third.manifest.summary["new"] == 0
        assert shared_files(third) == shared_files(second)
        assert index(third)["a/003.png"] == index(first)["a/003.png"]
        assert Corpus.open(third).splits == {
            split: sum(row["split"] == split for row in rows(third, "index.parquet")) for split in ("train", "val")
        }

    def test_a_file_of_the_same_bytes_inherits_the_record(self, config: PipelineConfig, images: Path) -> None:
        shutil.copy(images / "a" / "005.png", images / "a" / "twin.png")
        shutil.copy(images / "a" / "006.png", images / "b" / "twin.png")
        first = corpus_of(config)
        assert account(first) == (42, 40, 0, 2)
        keys = {number: index_key(first, images / "a" / f"{number}.png") for number in ("005", "006")}
        (images / "a" / "005.png").unlink()
        (images / "a" / "006.png").unlink()
        second = corpus_of(config)
        listed, kept, quarantined, duplicates = account(second)
        assert (listed, quarantined) == (40, 0)
        assert listed == kept + duplicates
        assert index(second)["a/twin.png"]["key"] == keys["005"]
        # Of another class: where a shard has the bytes under the old label only, that is said; nothing is mislabelled.
        heir = index(second).get("b/twin.png")
        if heir is None:
            [row] = rows(second, "quarantine.parquet")
            assert row["path"] == "b/twin.png"
            assert "a compacted corpus has it" in row["detail"]
        else:
            assert (heir["key"], second_name(second, heir["label"])) == (keys["006"], "b")

    def test_moving_an_image_to_another_class_relabels_it(self, config: PipelineConfig, images: Path) -> None:
        corpus_of(config)
        (images / "a" / "007.png").rename(images / "b" / "007.png")
        second = corpus_of(config)
        row = index(second)["b/007.png"]
        assert second_name(second, row["label"]) == "b"
        assert "a/007.png" not in index(second)
        assert account(second) == (40, 40, 0, 0)

    def test_classes_keep_their_numbers(self, config: PipelineConfig, images: Path) -> None:
        first = corpus_of(config)
        write(images, range(100, 103), "Aardvark")  # sorts before the others
        shutil.rmtree(images / "b")
        second = Corpus.open(corpus_of(config))
        assert second.class_names == ("a", "b", "Aardvark")
        old_shard = Corpus.open(first).shards("train")[0]
        assert second.class_names_of(old_shard) == ("a", "b")
        assert second.class_names_of(second.shards("train")[-1]) == second.class_names
        labels = Counter(second.labels("train").tolist()) + Counter(second.labels("val").tolist())
        assert labels == {0: 30, 2: 3}

    def test_bad_files_are_not_read_again(self, config: PipelineConfig, images: Path) -> None:
        (images / "a" / "bad.png").write_bytes(b"junk")
        (images / "notes.txt").write_text("x")
        assert account(corpus_of(config)) == (42, 40, 2, 0)
        write(images, range(100, 101))
        second = corpus_of(config)
        assert account(second) == (43, 41, 2, 0)
        assert second.manifest.summary["new"] == 1


class TestWhichParent:
    """Which corpus grows, and what its fingerprint is made of."""

    def test_an_unchanged_source_is_the_corpus_that_there_is(self, config: PipelineConfig, images: Path) -> None:
        first = corpus_of(config)
        assert corpus_of(config).ref == first.ref
        write(images, range(100, 104))
        second = corpus_of(config)
        assert corpus_of(config).ref == second.ref
        assert [ref.kind for ref in second.manifest.inputs] == ["source", "corpus"]
        assert second.manifest.inputs[1] == first.ref.as_input()
        asked = fingerprint("shard", second.manifest.stage_version, second.manifest.recipe, second.manifest.inputs)
        assert asked == second.manifest.fingerprint
        assert first.manifest.recipe == second.manifest.recipe
        for path in images.glob("a/1??.png"):
            path.unlink()
        assert corpus_of(config).ref == first.ref

    def test_a_named_parent_no_parent_and_a_foreign_one(
        self, config: PipelineConfig, images: Path, tmp_path: Path
    ) -> None:
        first = corpus_of(config)
        write(images, range(100, 104))
        store = config.store.url
        anew = corpus_of(tiny_config(store, images, **SMALL, shard__parent=None))
        assert [ref.kind for ref in anew.manifest.inputs] == ["source"]
        assert account(anew) == (44, 44, 0, 0)
        assert anew.manifest.summary["num_shards"] < 2 * 5 + 1  # five units, not four and one
        shutil.copytree(images, tmp_path / "moved")
        write(tmp_path / "moved", range(200, 201))
        moved = tiny_config(store, tmp_path / "moved", **SMALL)
        assert find_parent(moved.shard, Pipeline(moved).listing, Store.open(store)) is None  # another place: unrelated
        named = tiny_config(store, tmp_path / "moved", **SMALL, shard__parent=first.ref.fingerprint[:10])
        assert shared_files(first).items() < shared_files(corpus_of(named)).items()
        other = tiny_config(store, images, **SMALL, shard__parent=first.ref.fingerprint, shard__format="webp")
        with pytest.raises(IngestError, match="its format differ from this config's") as caught:
            Pipeline(other).request("shard")
        assert "\n" not in str(caught.value)

    def test_a_damaged_corpus_is_no_parent(self, config: PipelineConfig, images: Path) -> None:
        first = corpus_of(config)
        write(images, range(100, 104))
        second = corpus_of(config)
        [lost, *_] = shared_files(second).keys() - shared_files(first).keys()
        Path(second.url(lost).removeprefix("file://")).unlink()
        write(images, range(104, 105))
        third = corpus_of(config)
        assert third.manifest.inputs[1] == first.ref.as_input()
        assert account(third) == (45, 45, 0, 0)

    def test_a_plan_counts_what_is_known(self, config: PipelineConfig, images: Path) -> None:
        corpus_of(config)
        write(images, range(100, 104))
        request, store = Pipeline(config).request("shard"), Store.open(config.store)
        assert "44 images, grown from" in request.label
        assert request.headway is not None
        assert request.headway(store, store.workspace("corpus", request.fingerprint)) == Headway(40, 44, "images")


class TestCompaction:
    """One generation out of many, from the shards alone."""

    def test_it_is_what_a_fresh_ingest_would_give(self, config: PipelineConfig, images: Path, tmp_path: Path) -> None:
        (images / "a" / "bad.png").write_bytes(b"junk")
        (images / "notes.txt").write_text("x")
        for name in ("a/twin.png", "b/twin.png"):
            shutil.copy(images / "a" / "005.png", images / name)
        corpus_of(config)
        write(images, range(100, 112), "c")
        (images / "a" / "005.png").unlink()
        (images / "a" / "006.png").write_bytes(png(999, (20, 20), "L"))
        corpus_of(config)
        shutil.copy(images / "c" / "100.png", images / "b" / "100.png")
        (images / "c" / "101.png").unlink()
        third = corpus_of(config)
        fresh = corpus_of(tiny_config(tmp_path / "other", images, **SMALL))
        shutil.rmtree(images)
        store = Store.open(config.store)
        compacted = store.get(execute(compact.request(third), store))
        assert account(third)[0] == account(compacted)[0] == 55
        assert (compacted.manifest.fingerprint, compacted.manifest.digest) == (
            fresh.manifest.fingerprint,
            fresh.manifest.digest,
        )
        assert compacted.manifest.summary == fresh.manifest.summary
        with pytest.raises(CorpusError, match="nothing to compact"):
            compact.request(compacted)
        assert store.verify() == []


@pytest.fixture(scope="module")
def tokenizer(digit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tokenizer of one step; of what it was trained does not matter here."""
    return build(tiny_config(tmp_path_factory.mktemp("tokenizer"), digit_folder, **SMALL), "train_tokenizer")[
        "tokenizer"
    ]


class TestTokensOfAGrownCorpus:
    """Only new shards are encoded, and what is gone is cut out."""

    def encode(self, config: PipelineConfig, tokenizer: Artifact) -> Artifact:
        store = Store.open(config.store)
        return store.get(execute(encode.request(config.encode, corpus_of(config), tokenizer), store))

    def test_old_token_files_stay_whatever_classes_come(
        self, config: PipelineConfig, images: Path, tokenizer: Artifact
    ) -> None:
        first = self.encode(config, tokenizer)
        write(images, range(100, 104), "Aardvark")
        second = self.encode(config, tokenizer)
        assert shared_files(first).items() < shared_files(second).items()
        tokens = TokenDataset.open(second)
        assert tokens.meta.class_names == ("a", "b", "Aardvark")
        assert sum(tokens.splits.values()) == 44
        labels = tokens.labels("train").tolist() + tokens.labels("val").tolist()
        assert Counter(labels) == {0: 30, 1: 10, 2: 4}

    def test_rows_of_lost_images_are_cut_out_and_nothing_is_encoded_again(
        self, config: PipelineConfig, images: Path, tokenizer: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.encode(config, tokenizer)
        for number in (3, 4, 17):
            (images / "a" / f"{number:03d}.png").unlink()
        anew = TokenDataset.open(
            self.encode(tiny_config(images.parent / "other", images, **SMALL, shard__parent=None), tokenizer)
        )
        monkeypatch.setattr(encode._Encoder, "encode", never)
        cut = TokenDataset.open(self.encode(config, tokenizer))
        for split in ("train", "val"):
            assert cut.keys(split) == anew.keys(split)
            for view in cut.views:
                assert cut.tokens(split, view).equal(anew.tokens(split, view))


def test_growing_by_a_tenth_reads_shards_and_encodes_only_that(
    s3_url: str, faults: Faults, tokenizer: Artifact, tmp_path: Path
) -> None:
    """Counted in the requests that reach the S3 server."""
    source, store_url = f"{s3_url}/images", f"{s3_url}/store"
    upload(source, tmp_path, range(40))
    config = tiny_config(store_url, Path("unused"), **SMALL, shard__source__url=source)
    first = build_tokens(config, tokenizer, faults)
    shards = num_shards(config)
    assert first == {
        "images": 40, "shards written": shards, "shards read": shards, "token files written": 2 * shards,
        "token files read": 0,
    }  # fmt: skip
    upload(source, tmp_path, range(100, 104))
    grown = build_tokens(config, tokenizer, faults)
    new = num_shards(config) - shards
    assert grown == {
        "images": 4, "shards written": new, "shards read": new, "token files written": 2 * new, "token files read": 0,
    }  # fmt: skip
    assert set(build_tokens(config, tokenizer, faults).values()) == {0}


def build_tokens(config: PipelineConfig, tokenizer: Artifact, faults: Faults) -> dict[str, int]:
    """Corpus and tokens; how many different objects were read and written for them."""
    faults.log.clear()
    store = Store.open(config.store)
    corpus = store.get(execute(Pipeline(config).request("shard"), store))
    execute(encode.request(config.encode, corpus, tokenizer), store)

    def objects(method: str, pattern: str) -> int:
        return len({path.partition("?")[0] for _, path, _ in faults.requests(method, pattern)})

    return {
        "images": objects("GET", r"/images/.*\.png"),
        "shards written": objects("PUT", r"/parts/corpus/.*\.tar"),
        "shards read": objects("GET", r"/parts/corpus/.*\.tar"),
        "token files written": objects("PUT", r"/parts/tokens/.*\.parquet"),
        "token files read": objects("GET", r"/parts/tokens/.*\.parquet"),
    }


def num_shards(config: PipelineConfig) -> int:
    shards: int = corpus_of(config).manifest.summary["num_shards"]
    return shards


def upload(url: str, folder: Path, numbers: range) -> None:
    write(folder, numbers)
    fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    for number in numbers:
        fs.pipe_file(f"{root}/a/{number:03d}.png", (folder / "a" / f"{number:03d}.png").read_bytes())


def index_key(artifact: Artifact, path: Path) -> str:
    """The key of the record that has a file's bytes, whatever its path."""
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    assert any(row["key"] == key for row in rows(artifact, "index.parquet"))
    return key


def second_name(artifact: Artifact, label: int) -> str:
    return Corpus.open(artifact).class_names[label]


def never(*_arguments: Any) -> bytes:
    raise AssertionError("something was encoded again")
