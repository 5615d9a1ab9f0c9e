"""What every kind of storage promises: whole objects, one creator, fresh listings, workers of every kind."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from datasets.store import CorruptObject, ObjectMissing, Storage, StoreUnavailable

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue


def test_objects_come_back_as_they_were_written(storage: Storage) -> None:
    storage.write("a/b.bin", b"12345")
    storage.write("a/b.bin", b"123456")
    storage.write("a/c/d.bin", b"")
    assert storage.read("a/b.bin") == storage.read("a/b.bin", size=6) == b"123456"
    assert storage.read_range("a/b.bin", 2, 5) == b"345"
    assert storage.read("a/c/d.bin") == storage.read("a/c/d.bin", size=0) == b""
    assert storage.size("a/b.bin") == 6
    assert storage.size("a/c/d.bin") == 0
    assert storage.find("a") == storage.find("") == {"a/b.bin": 6, "a/c/d.bin": 0}
    assert storage.find("a/c") == {"a/c/d.bin": 0}
    assert storage.folders("a") == ["c"]
    assert storage.folders("") == ["a"]


def test_what_is_not_there_is_missing(storage: Storage) -> None:
    storage.write("a/b", b"1")
    for path in ("x", "a/x", "a"):
        with pytest.raises(ObjectMissing, match="there is no"):
            storage.read(path)
        with pytest.raises(ObjectMissing):
            storage.read(path, size=1)
        assert storage.size(path) is None
    assert storage.find("x") == {}
    assert storage.folders("x") == []
    storage.delete("x/y")


def test_delete_removes_one_object(storage: Storage) -> None:
    for path in ("a/b", "a/c", "d/e/f"):
        storage.write(path, b"1")
    storage.delete("a/b")
    storage.delete("d/e/f")
    assert storage.find("") == {"a/c": 1}
    storage.write("d/e/f", b"2")
    assert storage.read("d/e/f") == b"2"


@pytest.mark.parametrize("name", ["with space", "a#b?c", "[1]*", "100%20", "ümläut", "a+b=c@d"])
def test_names_are_taken_as_they_are(storage: Storage, name: str) -> None:
    storage.write(f"dir/{name}.bin", name.encode())
    assert storage.read(f"dir/{name}.bin") == name.encode()
    assert storage.find("dir") == {f"dir/{name}.bin": len(name.encode())}
    storage.delete(f"dir/{name}.bin")
    assert storage.find("dir") == {}


def test_creation_does_not_overwrite(storage: Storage) -> None:
    assert storage.create("claim", b"mine")
    assert not storage.create("claim", b"yours")
    assert storage.read("claim") == b"mine"


@pytest.mark.parametrize("number", range(3))
def test_of_racing_creators_one_wins(url: str, number: int) -> None:
    barrier = threading.Barrier(12)
    storages = [Storage(url) for _ in range(4)]

    def race(index: int) -> bool:
        barrier.wait()
        return storages[index % 4].create(f"claims/{number}.json", f"writer {index}".encode())

    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(race, range(12)))
    assert sum(won) == 1
    assert storages[0].read(f"claims/{number}.json") == f"writer {won.index(True)}".encode()


def test_an_object_of_another_size_is_no_success(storage: Storage) -> None:
    storage.write("a", b"123")
    with pytest.raises(CorruptObject, match="only 3 came back"):
        storage.read("a", size=4)
    with pytest.raises(CorruptObject, match="should be empty"):
        storage.read("a", size=0)


def test_listings_are_fresh(url: str) -> None:
    ours, theirs = Storage(url), Storage(url)
    theirs.write("a/1", b"1")
    assert ours.find("a") == {"a/1": 1}
    assert ours.folders("") == ["a"]
    assert ours.size("a/2") is None
    theirs.write("a/1", b"longer")
    theirs.write("a/2", b"2")
    theirs.write("b/3", b"3")
    assert ours.find("a") == {"a/1": 6, "a/2": 1}
    assert ours.folders("") == ["a", "b"]
    assert (ours.size("a/1"), ours.size("a/2"), ours.read("a/1")) == (6, 1, b"longer")


def test_bytes_are_counted(storage: Storage) -> None:
    storage.write("a", b"12345")
    storage.create("b", b"123")
    storage.create("b", b"1234567")
    storage.read("a", size=5)
    storage.read_range("a", 0, 2)
    assert (storage.bytes_written, storage.bytes_read) == (8, 7)


def _read_in_child(storage: Storage, answers: SimpleQueue[bytes]) -> None:
    answers.put(storage.read("a"))


def test_a_forked_or_spawned_worker_can_go_on(shared_url: str) -> None:
    storage = Storage(shared_url)
    storage.write("a", b"from the parent")
    assert storage.read("a")  # connections and threads of the parent exist by now
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        answers = context.SimpleQueue()
        child = context.Process(target=_read_in_child, args=(storage, answers))
        child.start()
        child.join(60)
        # Not its status: at its end, a fork runs what Prefect has left in the parent.
        assert not answers.empty(), method
        assert answers.get() == b"from the parent"
    assert storage.read("a") == b"from the parent"


def test_pickling_carries_only_the_place(storage: Storage) -> None:
    storage.write("a", b"1")
    copy = pickle.loads(pickle.dumps(storage))  # noqa: S301 (our own bytes: what a spawned worker does)
    assert copy.root == storage.root
    assert copy.bytes_written == 0
    assert copy.read("a") == b"1"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("s3://key:very-secret@bucket/x", "holds credentials"),
        ("simplecache::s3://bucket/x", "chains file systems"),
        ("", "is empty"),
        ("s3://", "names no bucket"),
        ("nosuchscheme://x/y", "cannot open"),
        ("ftp://127.0.0.1:1/x", "cannot open"),
    ],
)
def test_urls_that_name_no_store_are_refused(bad: str, words: str) -> None:
    with pytest.raises(StoreUnavailable, match=words) as caught:
        Storage(bad).size("a")
    assert "very-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endpoint_with_credentials_is_refused() -> None:
    with pytest.raises(StoreUnavailable, match="holds credentials") as caught:
        Storage("s3://bucket/x", "http://user:very-secret@127.0.0.1:9")
    assert "very-secret" not in str(caught.value)
