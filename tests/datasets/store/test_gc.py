"""What gc takes, and above all what it leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from datasets.store import Artifact, Draft, Holder, Manifest, Storage, Store
from tests.datasets.store.conftest import Spawn

PUBLISHED, UNPUBLISHED = "a" * 64, "b" * 64
HOLD = """
import sys
from datasets.store import Store
with Store.open(sys.argv[1]).claim("corpus", sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def publish(store: Store, fingerprint: str = PUBLISHED, key: str = "used") -> Artifact:
    with store.claim("corpus", fingerprint) as lease:
        part = store.put_part("shard", key, {"x.tar": b"123", "y.tar": b"1"})
        ref = store.publish(Draft("corpus", fingerprint, "s", 1, {}, files={"a": b"12"}, parts=[part]), lease)
    return store.get(ref)


def litter(store: Store) -> dict[str, str]:
    """Leave one of everything that is garbage; return why."""
    store.workspace("corpus", PUBLISHED).put("checkpoint", b"1234")
    store.put_part("shard", "unused", {"x.tar": b"12345"})
    store.storage.write(f"corpus/{UNPUBLISHED}/a", b"1")
    store.storage.write(f"corpus/{PUBLISHED}/stray", b"1")
    store.storage.write(f"corpus/{PUBLISHED}/a.tmp-{'0' * 32}", b"1")
    store.storage.write("claims/.probe-1", b"1")
    return {
        f"claims/corpus-{PUBLISHED}/000001.json": "claim of a published artifact",
        "claims/.probe-1": "left by a killed writer",
        f"corpus/{PUBLISHED}/a.tmp-{'0' * 32}": "left by a killed writer",
        f"corpus/{PUBLISHED}/stray": "not listed by the manifest beside it",
        f"corpus/{UNPUBLISHED}/a": "never published",
        "parts/shard/unused/part.json": "part of no artifact",
        "parts/shard/unused/x.tar": "part of no artifact",
        f"work/corpus/{PUBLISHED}/checkpoint": "partial work of a published artifact",
    }


def test_garbage_goes_and_artifacts_stay(store: Store) -> None:
    artifact = publish(store)
    clean = store.storage.find("")
    expected = litter(store)
    dirty = {entry.path: entry.bytes for entry in store.storage.entries("")}
    listed = store.gc(older_than_seconds=0)
    assert {item.path: item.reason for item in listed} == expected
    assert {item.path: item.bytes for item in listed} == {path: dirty[path] for path in expected}
    assert {entry.path: entry.bytes for entry in store.storage.entries("")} == dirty  # a dry run
    assert store.gc(dry_run=False, older_than_seconds=0) == listed
    left = {entry.path: entry.bytes for entry in store.storage.entries("")}
    assert left == {path: size for path, size in clean.items() if not path.startswith("claims/")}
    assert store.get(artifact.ref).read("a") == b"12"
    assert store.verify() == []
    assert publish(store).ref == artifact.ref  # and its claim can be taken again


def test_nothing_young_goes(store: Store) -> None:
    publish(store)
    litter(store)
    assert store.gc() == []
    assert store.gc(dry_run=False) == []


def test_age_is_that_of_the_youngest_beside_it(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    publish(store)
    litter(store)
    two_days_ago = time.time() - 2 * 86400
    for path in store.storage.find("parts/shard/unused"):
        os.utime(tmp_path / path, (two_days_ago, two_days_ago))
    assert {item.path for item in store.gc()} == {"parts/shard/unused/part.json", "parts/shard/unused/x.tar"}
    os.utime(tmp_path / "parts/shard/unused/x.tar")
    assert store.gc() == []


def test_partial_work_waits_longer(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.workspace("prior", UNPUBLISHED).put("checkpoint", b"1")
    for days, expected in ((2, 0), (31, 1)):
        when = time.time() - days * 86400
        os.utime(tmp_path / "work" / "prior" / UNPUBLISHED / "checkpoint", (when, when))
        assert len(store.gc()) == expected
    assert len(store.gc(dry_run=False)) == 1
    assert store.workspace("prior", UNPUBLISHED).names() == []


def test_a_live_run_keeps_its_work_and_all_parts(shared_url: str, spawn: Spawn) -> None:
    store = Store.open(shared_url)
    publish(store)
    child = spawn(HOLD, shared_url, UNPUBLISHED)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    litter(store)
    store.workspace("corpus", UNPUBLISHED).put("checkpoint", b"1")
    gone = {item.path for item in store.gc(dry_run=False, older_than_seconds=0)}
    assert not any(UNPUBLISHED in path or path.startswith("parts/") for path in gone)
    assert f"work/corpus/{PUBLISHED}/checkpoint" in gone
    child.kill()
    child.wait()
    gone = {item.path for item in store.gc(dry_run=False, older_than_seconds=0)}
    assert {f"corpus/{UNPUBLISHED}/a", "parts/shard/unused/x.tar"} <= gone


def test_a_run_elsewhere_is_taken_for_alive(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    publish(store)
    litter(store)
    claim = tmp_path / f"claims/corpus-{UNPUBLISHED}/000001.json"
    holder = Holder(nonce="n", host="elsewhere", machine="m", pid=1, started="1")
    store.storage.write(f"claims/corpus-{UNPUBLISHED}/000001.json", holder.to_bytes())
    assert not any(item.path.startswith(("parts/", f"corpus/{UNPUBLISHED}")) for item in store.gc(older_than_seconds=0))
    two_hours_ago = time.time() - 7200
    os.utime(claim, (two_hours_ago, two_hours_ago))  # no heartbeat for that long
    assert any(item.path.startswith("parts/") for item in store.gc(older_than_seconds=0))


def test_what_an_unreadable_manifest_may_refer_to_stays(store: Store) -> None:
    publish(store)
    publish(store, UNPUBLISHED, key="other")
    store.storage.write(f"corpus/{UNPUBLISHED}/manifest.json", b"damaged")
    store.gc(dry_run=False, older_than_seconds=0)
    assert set(store.storage.find(f"corpus/{UNPUBLISHED}")) == {
        f"corpus/{UNPUBLISHED}/a",
        f"corpus/{UNPUBLISHED}/manifest.json",
    }
    assert store.part("shard", "other") is not None


@pytest.mark.parametrize("path", ["photos/cats/1.jpg", "notes.txt", "corpus/readme.md", f"Corpus/{UNPUBLISHED}/a"])
def test_what_is_not_ours_stays(tmp_path: Path, path: str) -> None:
    storage = Storage(str(tmp_path))
    storage.write(path, b"precious")
    assert Store(storage).gc(dry_run=False, older_than_seconds=0) == []
    assert storage.read(path) == b"precious"


def test_what_is_published_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(str(tmp_path))
    publish(store)
    store.storage.write(f"corpus/{UNPUBLISHED}/a", b"12")  # a dead run's file, which the next run takes over
    store.put_part("shard", "other", {"x.tar": b"123", "y.tar": b"1"})
    read_all, calls = store.artifacts, 0

    def read_and_be_overtaken(kind: str | None = None) -> list[Manifest]:
        nonlocal calls
        calls += 1
        manifests = read_all(kind)
        if calls == 1:
            publish(store, UNPUBLISHED, key="other")
        return manifests

    monkeypatch.setattr(store, "artifacts", read_and_be_overtaken)
    store.gc(dry_run=False, older_than_seconds=0)
    assert calls == 2
    assert len(read_all()) == 2
    assert store.verify() == []
