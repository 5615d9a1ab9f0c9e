"""A folder: kills in the middle of a write, full disks, places that cannot be written."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.store import DiskFull, Storage, StoreNotWritable
from tests.datasets.store.conftest import Spawn

WRITER = """
import itertools, sys
from datasets.store import Storage
storage = Storage(sys.argv[1])
storage.write("big", b"a" * (8 << 20))
print("ready", flush=True)
for turn in itertools.count():
    storage.write("big", b"ba"[turn % 2:][:1] * (8 << 20))
"""

LIMITED = """
import resource, sys
from datasets.store import DiskFull, Storage
storage = Storage(sys.argv[1])
storage.write("a", b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (storage.write, storage.create):
    try:
        write("b", bytes(100_000))
    except DiskFull as error:
        print(error)
"""


def test_a_killed_writer_leaves_whole_objects(tmp_path: Path, spawn: Spawn) -> None:
    storage = Storage(str(tmp_path))
    for delay in (0.0, 0.013, 0.031, 0.057):
        child = spawn(WRITER, str(tmp_path))
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(delay)
        child.kill()
        child.wait()
        data = storage.read("big")
        assert len(data) == 8 << 20
        assert len(set(data)) == 1
        assert list(storage.find("")) == ["big"]  # what the writer left beside it is no object


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path, spawn: Spawn) -> None:
    output, _ = spawn(LIMITED, str(tmp_path)).communicate(timeout=60)
    assert output.count(f"no room to write {tmp_path}/b: File too large; free some space") == 2
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208 (names alone, hidden ones too)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root and the permission to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_what_is_there(small_disk: Path) -> None:
    storage = Storage(str(small_disk))
    storage.write("a", b"old")
    for write in (storage.write, storage.create):
        with pytest.raises(DiskFull, match="No space left on device"):
            write("b/c", bytes(1 << 20))
    with pytest.raises(DiskFull):
        storage.write("a", bytes(1 << 20))
    assert storage.read("a") == b"old"
    assert storage.find("") == {"a": 3}
    storage.write("b/c", b"fits")


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/no-store")):
        storage = Storage(str(root))
        for write in (storage.write, storage.create):
            with pytest.raises(StoreNotWritable, match=f"the store {root} is not writable") as caught:
                write("a/b", b"1")
            assert "\n" not in str(caught.value)
        assert storage.find("") == {}
        assert storage.size("a/b") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreNotWritable, match="Permission denied"):
        Storage(str(tmp_path)).write("a", b"1")


def test_paths_of_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Storage("./place").write("a", b"1")
    for url in ("place", f"file://{tmp_path}/place", str(tmp_path / "place"), "~/place", "place/"):
        storage = Storage(url)
        assert storage.root == str(tmp_path / "place")
        assert storage.read("a") == b"1"


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"1")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "store")
    assert Storage(str(tmp_path / "store")).find("") == {"link/a": 1}


def test_a_file_system_without_links_still_excludes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")  # what exFAT answers; none can be mounted here

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    storage = Storage(str(tmp_path))
    assert storage.create("a/b", b"mine")
    assert not storage.create("a/b", b"yours")
    assert storage.read("a/b") == b"mine"
    assert [entry.path for entry in storage.entries("")] == ["a/b"]
