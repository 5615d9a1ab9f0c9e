"""Contract: a shard of a remote store is fetched once, and what is on the disk is never believed without its sha256."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from datasets.corpus import Corpus
from datasets.errors import CorpusError
from datasets.files import Files, MemoryFiles
from datasets.shard_cache import CachedShards, with_shard_cache
from datasets.store import Artifact, CorruptObject, Draft, Store
from tests.datasets.conftest import Ingested
from tests.s3_server import Faults, faults, moto_endpoint, s3_url

__all__ = ["faults", "moto_endpoint", "s3_url"]


@pytest.fixture
def remote(digits: Ingested, s3_url: str, faults: Faults) -> Artifact:
    store = Store.open(s3_url)
    draft = Draft(kind="corpus", fingerprint="f" * 64, stage="shard", stage_version="1", recipe={}, files=digits.files)
    return store.get(store.publish(draft))


def epoch(files: Files, **how: int) -> int:
    """Read all records of training once; how many there are."""
    corpus = Corpus.open(files)
    return sum(len(batch["labels"]) for batch in corpus.sequential("train", 64, **how))


def test_each_shard_is_fetched_once(remote: Artifact, faults: Faults, tmp_path: Path) -> None:
    cached = CachedShards(remote, tmp_path, 1 << 30)
    faults.log.clear()
    assert epoch(cached) == 1717
    assert len(faults.requests("GET", r"train-\d+\.tar")) == 3
    assert epoch(CachedShards(remote, tmp_path, 1 << 30)) == 1717  # another process of the same machine
    assert len(faults.requests("GET", r"train-\d+\.tar")) == 3
    plain, there = Corpus.open(remote), Corpus.open(cached)
    assert (
        plain.batches("train", 8, seed=1).batch(5)["images"].equal(there.batches("train", 8, seed=1).batch(5)["images"])
    )


def test_the_folder_stays_within_its_limit(remote: Artifact, tmp_path: Path) -> None:
    sizes = {entry.path: entry.bytes for entry in remote.manifest.files if entry.path.startswith("train")}
    limit = 2 * max(sizes.values())
    cached = CachedShards(remote, tmp_path, limit)
    used = []
    for path in [*sizes, *sizes]:
        assert cached.read_range(path, 257, 262) == b"ustar"
        used.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
    assert max(used) <= limit
    assert epoch(cached) == 1717


def test_what_killed_writers_left_goes(remote: Artifact, tmp_path: Path) -> None:
    old, young = tmp_path / "a.tmp-1", tmp_path / "b.tmp-2"
    for file in (old, young):
        file.write_bytes(b"x")
    os.utime(old, (1, 1))
    CachedShards(remote, tmp_path, 1 << 30).read_range("train-000000.tar", 0, 9)
    assert not old.exists()
    assert young.exists()


def test_a_file_that_went_bad_is_fetched_again(remote: Artifact, tmp_path: Path) -> None:
    epoch(CachedShards(remote, tmp_path, 1 << 30))
    for file in tmp_path.iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    assert epoch(CachedShards(remote, tmp_path, 1 << 30)) == 1717


def test_a_shard_that_is_bad_in_the_store_is_named(remote: Artifact, tmp_path: Path) -> None:
    remote.storage.write("corpus/" + "f" * 64 + "/train-000001.tar", b"not a shard")
    with pytest.raises(CorruptObject, match=r"train-000001\.tar"):
        epoch(CachedShards(remote, tmp_path, 1 << 30))
    assert not list(tmp_path.glob("*.tmp-*"))


def test_threads_share_one_fetch(remote: Artifact, faults: Faults, tmp_path: Path) -> None:
    cached = CachedShards(remote, tmp_path, 1 << 30)
    faults.log.clear()
    threads = [threading.Thread(target=cached.read_range, args=("train-000000.tar", 0, 9)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(faults.requests("GET", "train-000000")) == 1


def test_a_store_on_this_machine_needs_none(remote: Artifact, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    local = store.get(store.publish(Draft("corpus", "a" * 64, "shard", "1", {}, files={"x.tar": b"1"})))
    assert with_shard_cache(local, 1 << 30) is local
    assert with_shard_cache(remote, 0) is remote
    assert isinstance(with_shard_cache(remote, 1), CachedShards)


class TestDamagedShards:
    """Stop or skip."""

    def damaged(self, digits: Ingested, *names: str) -> Corpus:
        return Corpus(MemoryFiles({name: bytes(len(d)) if name in names else d for name, d in digits.files.items()}))

    def test_training_stops_unless_told_to_skip(self, digits: Ingested) -> None:
        batches = self.damaged(digits, "train-000001.tar").batches("train", 64, seed=0)
        with pytest.raises(CorpusError, match=r"train-000001\.tar"):
            list(map(batches.batch, range(4)))

    def test_what_is_skipped_is_replaced_and_counted(self, digits: Ingested) -> None:
        corpus = self.damaged(digits, "train-000001.tar")
        batches = corpus.batches("train", 64, seed=0).skipping_damaged()
        seen = [batches.batch(step) for step in range(27)]
        assert batches.replacements is not None
        lost = len(corpus.shard_records("train", "train-000001.tar"))
        # 27 batches of 64 are an epoch of 1,717 records and 11 more.
        assert lost <= batches.replacements.counts["train-000001.tar"] <= lost + 11
        assert list(batches.replacements.reasons) == ["train-000001.tar"]
        assert all(batch["images"].shape == (64, 1, 32, 32) for batch in seen)
        later = corpus.batches("train", 64, seed=0).skipping_damaged()
        assert later.batch(20)["images"].equal(seen[20]["images"])  # whenever the damage is found
        assert later.batch(20)["labels"].equal(seen[20]["labels"])

    def test_sound_records_are_those_that_they_were(self, digits: Ingested) -> None:
        whole = Corpus(digits.artifact).batches("train", 64, seed=0)
        skipping = self.damaged(digits, "train-000001.tar").batches("train", 64, seed=0).skipping_damaged()
        same = sum(bool(a.equal(b)) for a, b in zip(whole.batch(2)["images"], skipping.batch(2)["images"], strict=True))
        assert 30 < same < 60

    def test_nothing_is_left_to_train_on(self, digits: Ingested) -> None:
        corpus = self.damaged(digits, *(f"train-{number:06d}.tar" for number in range(3)))
        with pytest.raises(CorpusError, match="every shard of split 'train' is damaged"):
            corpus.batches("train", 64, seed=0).skipping_damaged().batch(0)
