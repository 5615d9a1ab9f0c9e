"""What survives a kill: private workspaces and shared parts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datasets.store import CorruptObject, Part, Storage, Store
from tests.s3_server import Faults


def test_workspaces_keep_names_apart(store: Store) -> None:
    work, other = store.workspace("prior", "a" * 64), store.workspace("prior", "b" * 64)
    work.put("checkpoint-1", b"1")
    work.put("parts/2", b"22")
    work.put("checkpoint-1", b"one")
    other.put("checkpoint-1", b"x")
    assert work.names() == ["checkpoint-1", "parts/2"]
    assert (work.get("checkpoint-1"), work.get("parts/2"), work.get("nothing")) == (b"one", b"22", None)
    work.delete("checkpoint-1")
    work.delete("nothing")
    assert work.names() == ["parts/2"]
    work.clear()
    assert work.names() == []
    assert other.names() == ["checkpoint-1"]
    with pytest.raises(ValueError, match="expected letters"):
        work.put("../../x", b"1")


def test_parts_are_made_once(store: Store) -> None:
    first = store.put_part("shard", "k", {"a.tar": b"1", "b.tar": b"22"}, {"records": 1})
    assert store.part("shard", "k") == first == store.put_part("shard", "k", {"a.tar": b"other"})
    assert store.part("shard", "nothing") is None
    assert store.read_part(first, "a.tar") == b"1"
    with pytest.raises(KeyError, match=r"has no file 'c\.tar', only"):
        store.read_part(first, "c.tar")
    store.storage.write("parts/shard/k/a.tar", b"2")
    with pytest.raises(CorruptObject, match="is damaged"):
        store.read_part(first, "a.tar")


def test_a_part_without_its_last_object_is_finished_by_the_next_run(store: Store) -> None:
    store.storage.write("parts/shard/k/a.tar", b"1")
    assert store.part("shard", "k") is None
    part = store.put_part("shard", "k", {"a.tar": b"1", "b.tar": b"22"})
    assert store.part("shard", "k") == part


@pytest.mark.timeout(30)
def test_a_part_that_was_damaged_later_is_made_again_at_once(store: Store) -> None:
    part = store.put_part("shard", "k", {"a.tar": b"whole", "b.tar": b"22"})
    store.storage.write("parts/shard/k/a.tar", b"who")
    assert store.part("shard", "k") is None
    assert store.put_part("shard", "k", {"a.tar": b"whole", "b.tar": b"22"}) == part
    assert store.read_part(part, "a.tar") == b"whole"


def test_racing_makers_of_a_part_agree(url: str) -> None:
    barrier = threading.Barrier(4)
    stores = [Store(Storage(url)) for _ in range(4)]

    def race(index: int) -> Part:
        barrier.wait()
        return stores[index].put_part("shard", "k", {"a": b"%d" % index, "b": b"%d" % index})

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(race, range(4)))
    assert all(part == parts[0] for part in parts)
    assert stores[0].read_part(parts[0], "a") == stores[0].read_part(parts[0], "b")


def test_a_part_of_a_live_writer_with_other_bytes_is_waited_for(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    theirs = Store.open(str(tmp_path / "theirs")).put_part("shard", "k", {"a.tar": b"theirs"})
    store.storage.write("parts/shard/k/a.tar", b"theirs")

    def finish() -> None:
        time.sleep(0.7)
        store.storage.write("parts/shard/k/part.json", theirs.model_dump_json().encode())

    thread = threading.Thread(target=finish)
    thread.start()
    assert store.put_part("shard", "k", {"a.tar": b"ours"}) == theirs
    thread.join()


def test_no_changed_bit_of_what_a_part_says_is_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its hashes would go into manifests."""
    store = Store.open(str(tmp_path))
    part = store.put_part("shard", "k", {"a.tar": b"1"}, {"codes": [3, 0, 12]})
    path = tmp_path / "parts/shard/k/part.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.part("shard", "k") in (None, part), whole[: place + 1]  # white space may be another
    assert "cannot be read and is made again" in caplog.text


def test_a_wrong_reply_about_a_part_is_asked_for_again(s3_url: str, faults: Faults) -> None:
    store = Store.open(s3_url)
    part = store.put_part("shard", "k", {"a.tar": b"1"})
    faults.add("corrupt", path=r"part\.json", times=2)
    assert store.part("shard", "k") == part
    assert not faults.plan[0].times
