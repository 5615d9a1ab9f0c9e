"""Publishing, finding again, refusing what is damaged, surviving kills and races."""

from __future__ import annotations

import json
import pickle
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.config import StoreConfig
from datasets.store import (
    Artifact,
    ArtifactMissing,
    ArtifactRef,
    ArtifactTooNew,
    CorruptObject,
    Cost,
    DiskFull,
    Draft,
    InputRef,
    Manifest,
    Storage,
    Store,
    digest_of,
)
from tests.datasets.store.conftest import Spawn
from tests.s3_server import SECRET, Faults

FINGERPRINT = "ab" * 32
FOLDER = f"corpus/{FINGERPRINT}"
INPUT = InputRef(kind="source", fingerprint="s", digest="1" * 64)


@pytest.fixture
def store_on_disk(tmp_path: Path) -> Store:
    """A store in a folder, for what does not depend on the kind of storage."""
    return Store.open(str(tmp_path / "store"))


def draft(store: Store, **changes: object) -> Draft:
    part = store.put_part("shard", "key-1", {"train-000000.tar": b"tar", "val-000000.tar": b""}, {"records": 3})
    whole = Draft(
        "corpus", FINGERPRINT, "shard", 1, {"size_px": 32}, [INPUT],
        files={"index.parquet": b"index", "sub/classes.json": b"{}"}, parts=[part], views={"report.html": b"10:30"},
        summary={"records": 3}, cost=Cost(seconds=1.5), device="cpu",
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]  # names and types are those of Draft's fields


def publish(store: Store, **changes: object) -> Artifact:
    artifact = store.get(store.publish(draft(store, **changes)))
    assert store.verify(artifact.manifest) == []
    return artifact


def test_what_is_published_is_found_and_read(store: Store) -> None:
    assert store.lookup("corpus", FINGERPRINT) is None
    ref = store.publish(draft(store))
    artifact = store.lookup("corpus", FINGERPRINT)
    assert artifact is not None
    assert artifact.ref == ref == ArtifactRef(**json.loads(ref.model_dump_json()))
    assert ref.uri == store.storage.url(FOLDER)
    assert artifact.read("index.parquet") == b"index"
    assert artifact.read("../../parts/shard/key-1/train-000000.tar") == b"tar"
    assert artifact.read("../../parts/shard/key-1/val-000000.tar") == b""
    assert artifact.read("report.html") == b"10:30"
    assert artifact.read_range("index.parquet", 1, 3) == b"nd"
    assert artifact.entry("sub/classes.json").bytes == 2
    assert artifact.url("../../parts/shard/key-1/train-000000.tar").endswith("/parts/shard/key-1/train-000000.tar")
    with pytest.raises(KeyError, match="no file 'nothing'"):
        artifact.read("nothing")
    assert store.get(ref).manifest == artifact.manifest
    assert store.verify() == []


def test_the_manifest_says_everything(store_on_disk: Store) -> None:
    manifest = publish(store_on_disk).manifest
    stored = json.loads(store_on_disk.storage.read(f"{FOLDER}/manifest.json"))
    assert set(stored) == set(Manifest.model_fields) | {"checksum"}
    assert stored["schema_version"] == 1
    assert stored["recipe"] == {"size_px": 32}
    assert stored["inputs"] == [{"kind": "source", "fingerprint": "s", "digest": "1" * 64}]
    assert [entry["path"] for entry in stored["files"]] == [
        "../../parts/shard/key-1/train-000000.tar", "../../parts/shard/key-1/val-000000.tar",
        "index.parquet", "sub/classes.json",
    ]  # fmt: skip
    assert [entry["path"] for entry in stored["views"]] == ["report.html"]
    assert stored["environment"]["device"] == "cpu"
    assert {"torch", "prefect", "pyarrow", "fsspec"} <= set(stored["environment"]["packages"])
    assert re.fullmatch(r"[0-9a-f]{40}\+?", stored["environment"]["commit"])
    assert stored["cost"]["seconds"] == 1.5
    assert stored["cost"]["bytes_written"] >= 3
    assert manifest.digest == digest_of(manifest.files) == stored["digest"]
    assert Manifest.from_bytes(manifest.to_bytes(), where="x") == manifest


def test_times_and_views_do_not_change_the_digest(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        store = Store.open(str(tmp_path / str(number)))
        artifact = publish(store, views={"report.html": str(number).encode()}, cost=Cost(seconds=number))
        digests.add(artifact.manifest.digest)
    assert len(digests) == 1


def test_a_published_artifact_never_changes(store: Store) -> None:
    first = publish(store)
    again = store.publish(draft(store, files={"index.parquet": b"other"}, summary={"records": 4}))
    assert again == first.ref
    assert store.get(again).manifest == first.manifest
    assert first.read("index.parquet") == b"index"


def test_racing_publishers_agree(url: str) -> None:
    stores = [Store(Storage(url)) for _ in range(6)]
    barrier = threading.Barrier(6)

    def race(index: int) -> ArtifactRef:
        barrier.wait()
        return stores[index].publish(draft(stores[index], files={"a": b"same", "b": bytes(10)}))

    with ThreadPoolExecutor(6) as pool:
        refs = list(pool.map(race, range(6)))
    assert len({ref.digest for ref in refs}) == 1
    assert len(stores[0].artifacts()) == 1
    assert stores[0].verify() == []


@pytest.mark.parametrize("lost", ["index.parquet", "report.html", "../../parts/shard/key-1/train-000000.tar"])
def test_an_artifact_that_lost_a_file_is_made_again(store: Store, lost: str, caplog: pytest.LogCaptureFixture) -> None:
    artifact = publish(store)
    path = artifact.url(lost).removeprefix(store.url + "/")
    for damage in (lambda: store.storage.delete(path), lambda: store.storage.write(path, b"longer than before")):
        damage()
        assert store.lookup("corpus", FINGERPRINT) is None
        assert "is treated as missing" in caplog.text
        with pytest.raises(ArtifactMissing, match="run the stage that makes it"):
            store.get(artifact.ref)
        assert len(store.verify()) == 1
        if lost.startswith(".."):
            assert store.part("shard", "key-1") is None
        assert publish(store).ref == artifact.ref


@pytest.mark.parametrize("lost", ["a", "b", "c"])
def test_what_comes_out_otherwise_is_not_taken_for_the_damaged_one(store: Store, lost: str) -> None:
    old = publish(store, files={"a": b"1", "b": b"2", "c": b"3"})
    store.storage.delete(f"{FOLDER}/{lost}")
    new = publish(store, files={"a": b"4", "b": b"5", "c": b"6"})
    assert new.ref.digest != old.ref.digest
    assert [new.read(name) for name in "abc"] == [b"4", b"5", b"6"]


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'{"schema_version": 1}', b"\xff\xfe"])
def test_a_damaged_manifest_is_no_artifact(
    store_on_disk: Store, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = publish(store_on_disk)
    store_on_disk.storage.write(f"{FOLDER}/manifest.json", content)
    assert store_on_disk.lookup("corpus", FINGERPRINT) is None
    assert "is no manifest" in caplog.text
    assert store_on_disk.artifacts() == []
    assert publish(store_on_disk).ref == artifact.ref


def test_a_changed_manifest_is_noticed(store_on_disk: Store) -> None:
    publish(store_on_disk)
    text = store_on_disk.storage.read(f"{FOLDER}/manifest.json").decode()
    other = text.replace('"path": "index.parquet"', '"path": "index.parquex"')
    store_on_disk.storage.write(f"{FOLDER}/manifest.json", other.encode())
    assert store_on_disk.lookup("corpus", FINGERPRINT) is None
    store_on_disk.storage.write(f"corpus/{'cd' * 32}/manifest.json", text.encode())  # at another artifact's place
    assert store_on_disk.lookup("corpus", "cd" * 32) is None


def test_a_newer_manifest_is_not_called_damaged(store_on_disk: Store) -> None:
    publish(store_on_disk)
    text = store_on_disk.storage.read(f"{FOLDER}/manifest.json").decode()
    store_on_disk.storage.write(
        f"{FOLDER}/manifest.json", text.replace('"schema_version": 1', '"schema_version": 9').encode()
    )
    with pytest.raises(ArtifactTooNew, match="schema version 9, this Tessera reads up to 1"):
        store_on_disk.lookup("corpus", FINGERPRINT)
    assert store_on_disk.artifacts() == []
    assert store_on_disk.gc(older_than_seconds=0) == []


@pytest.mark.parametrize(
    "path", ["../../../etc/passwd", "/etc/passwd", "../../work/a/b/c", "../../parts/a/../../b", "a//b"]
)
def test_a_manifest_cannot_point_elsewhere(store_on_disk: Store, path: str) -> None:
    publish(store_on_disk)
    text = store_on_disk.storage.read(f"{FOLDER}/manifest.json").decode()
    store_on_disk.storage.write(f"{FOLDER}/manifest.json", text.replace("index.parquet", path).encode())
    assert store_on_disk.lookup("corpus", FINGERPRINT) is None
    with pytest.raises(ValueError, match=r"expected letters|a shared file lies"):
        store_on_disk.publish(draft(store_on_disk, fingerprint="e" * 64, files={path: b"1"}))


def test_another_digest_is_another_artifact(store_on_disk: Store) -> None:
    ref = publish(store_on_disk).ref
    with pytest.raises(ArtifactMissing, match="was made again: its digest is now"):
        store_on_disk.get(ref.model_copy(update={"digest": "0" * 64}))


def test_a_flipped_bit_is_found_when_read(store: Store) -> None:
    artifact = publish(store)
    store.storage.write(f"{FOLDER}/index.parquet", b"indeX")
    assert store.lookup("corpus", FINGERPRINT) is not None  # a look at the sizes does not see it
    with pytest.raises(CorruptObject, match="is damaged: its sha256 is"):
        artifact.read("index.parquet")
    (problem,) = store.verify()
    assert "index.parquet is damaged" in problem


def test_verify_reads_a_shared_part_once_and_says_how_far_it_is(store_on_disk: Store) -> None:
    publish(store_on_disk)
    publish(store_on_disk, fingerprint="cd" * 32)
    steps: list[tuple[int, int]] = []
    assert store_on_disk.verify(progress=lambda done, total: steps.append((done, total))) == []
    total = 3 + 0 + 2 * (5 + 2 + 5)
    assert steps[-1] == (total, total)
    assert len(steps) == 2 + 2 * 3


def test_artifacts_are_listed_oldest_first(store: Store) -> None:
    fingerprints = [letter * 64 for letter in "3120"]
    for fingerprint in fingerprints:
        publish(store, fingerprint=fingerprint)
    publish(store, kind="tokens", fingerprint="9" * 64)
    store.workspace("corpus", "f" * 64).put("manifest.json", b"{}")
    assert [manifest.fingerprint for manifest in store.artifacts("corpus")] == fingerprints
    assert [manifest.kind for manifest in store.artifacts()] == ["corpus"] * 4 + ["tokens"]
    assert store.artifacts("prior") == []


def test_a_lost_part_stops_the_publication(store_on_disk: Store) -> None:
    whole = draft(store_on_disk)
    store_on_disk.storage.delete("parts/shard/key-1/train-000000.tar")
    with pytest.raises(ArtifactMissing, match=r"train-000000\.tar is not there any more"):
        store_on_disk.publish(whole)
    assert store_on_disk.lookup("corpus", FINGERPRINT) is None


def test_what_cannot_be_described_is_not_written(store_on_disk: Store) -> None:
    for bad in (float("nan"), {1, 2}, b"1"):
        with pytest.raises(ValueError, match="recipe or summary of corpus is no JSON"):
            store_on_disk.publish(draft(store_on_disk, summary={"nll": bad}))
    assert store_on_disk.storage.find("corpus") == {}


@pytest.mark.parametrize("kind", ["parts", "work", "claims", "Corpus", "a/b", ""])
def test_kinds_are_plain_words(store_on_disk: Store, kind: str) -> None:
    with pytest.raises(ValueError, match="expected a lower-case word"):
        store_on_disk.lookup(kind, FINGERPRINT)


def test_a_store_can_be_handed_to_a_worker(store: Store) -> None:
    artifact = publish(store)
    copies = pickle.loads(pickle.dumps((store, artifact)))  # noqa: S301 (our own bytes: what a spawned worker does)
    assert copies[0].get(artifact.ref).manifest == artifact.manifest
    assert copies[1].read("index.parquet") == b"index"


def test_it_opens_from_a_config(tmp_path: Path) -> None:
    publish(Store.open(StoreConfig(url=str(tmp_path))))
    assert len(Store.open(f"file://{tmp_path}").artifacts()) == 1


def test_a_failing_server_publishes_nothing(s3_url: str, faults: Faults) -> None:
    store = Store.open(s3_url)
    whole = draft(store)
    for path in ("index.parquet", "report.html", "manifest.json"):
        faults.plan.clear()
        faults.add("status", method="PUT", path=f"{FOLDER}/{path}", times=10**6, status=403, code="AccessDenied")
        with pytest.raises(Exception, match="no permission to write") as caught:
            store.publish(whole)
        assert SECRET not in str(caught.value)
        assert store.lookup("corpus", FINGERPRINT) is None
    faults.plan.clear()
    assert publish(store).read("index.parquet") == b"index"


def test_replies_that_lie_are_found_out(s3_url: str, faults: Faults) -> None:
    store = Store.open(s3_url)
    artifact = publish(store)
    for action in ("short", "corrupt", "truncate"):
        faults.add(action, path="index.parquet")
        assert artifact.read("index.parquet") == b"index"
        faults.add(action, path=f"{FOLDER}/manifest.json")
        assert store.lookup("corpus", FINGERPRINT) is not None
    faults.add("corrupt", path="index.parquet", times=10**6)
    with pytest.raises(CorruptObject, match="is damaged"):
        artifact.read("index.parquet")


@pytest.mark.parametrize(("old", "new"), [("index.parquet", "indey.parquet"), ("<Size>", "<Size>1")])
def test_a_listing_that_lies_hides_nothing(s3_url: str, faults: Faults, old: str, new: str) -> None:
    """A listing has no checksum: with one bit changed it kept a run from publishing."""
    store = Store.open(s3_url)
    faults.add("rewrite", path=f"list-type=2.*{FINGERPRINT}", times=10**6, old=old, new=new)
    assert publish(store).read("index.parquet") == b"index"
    assert faults.requests("GET", f"list-type=2.*{FINGERPRINT}")
    store.storage.delete(f"{FOLDER}/index.parquet")
    assert store.lookup("corpus", FINGERPRINT) is None, "what is not there is missed all the same"


def test_any_changed_bit_of_a_manifest_is_found_out(tmp_path: Path) -> None:
    manifest = publish(Store.open(str(tmp_path))).manifest
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data, where="here") == manifest
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = Manifest.from_bytes(changed, where="here")
        except (CorruptObject, ArtifactTooNew):
            continue
        assert found == manifest, f"byte {place}: {changed[place - 20 : place + 20]!r}"  # white space, at the most


def test_a_lookup_costs_few_requests(s3_url: str, faults: Faults) -> None:
    store = Store.open(s3_url)
    publish(store)
    faults.log.clear()
    assert store.lookup("corpus", FINGERPRINT) is not None
    assert len(faults.log) == 1 + 1 + 2  # the manifest, one listing, one look at each file of a part


def test_a_full_disk_publishes_nothing(tmp_path: Path, spawn: Spawn) -> None:
    program = """
import resource, sys
from datasets.store import DiskFull, Draft, Store
store = Store.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.publish(Draft("corpus", "ef" * 32, "shard", 1, {}, files={"a": b"1", "b": bytes(10**6)}))
except DiskFull as error:
    print("full:", error)
"""
    store = Store.open(str(tmp_path))
    publish(store)
    output, _ = spawn(program, str(tmp_path)).communicate(timeout=60)
    assert output.startswith("full: no room to write")
    assert issubclass(DiskFull, Exception)
    assert [manifest.fingerprint for manifest in store.artifacts()] == [FINGERPRINT]
    assert store.verify() == []


def test_kills_leave_whole_artifacts_or_none(tmp_path: Path, spawn: Spawn) -> None:
    program = """
import sys
from datasets.store import Draft, Store
store = Store.open(sys.argv[1])
print("ready", flush=True)
for number in range(30):
    fingerprint = f"{number:064x}"
    if store.lookup("corpus", fingerprint) is None:
        files = {"a.tar": bytes(50_000), "b.tar": bytes([number // 2]) * 70_000}
        part = store.put_part("shard", f"k{number // 2}", files)
        store.publish(Draft("corpus", fingerprint, "s", 1, {}, files={"a": bytes(9999), "b/c": b"1"}, parts=[part]))
"""
    store, chance = Store.open(str(tmp_path)), random.Random(0)
    for _ in range(6):
        child = spawn(program, str(tmp_path))
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.random() * 0.25)
        child.kill()
        child.wait()
        assert store.verify() == []
        for manifest in store.artifacts():
            assert store.lookup(manifest.kind, manifest.fingerprint) is not None
    assert spawn(program, str(tmp_path)).wait(60) == 0
    assert len(store.artifacts()) == 30
    assert store.verify() == []
