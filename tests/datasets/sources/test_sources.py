"""Contract: a source lists everything that it names, in one order, with a digest of its state; nothing is silent."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datasets.config import DigitsSource, FolderSource, TorchvisionSource
from datasets.errors import SourceChanged, SourceError
from datasets.sources import Listing, open_source
from tests.datasets.images import png


def folder(path: Path | str, **options: Any) -> Any:
    return open_source(FolderSource(url=str(path), **options))


def reasons(listing: Listing) -> dict[str, str]:
    return {item.path: item.reason for item in listing.skipped}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("cat/a.png", "cat/b.PNG", "dog/deep/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(hash_of(name)))
    return root


def hash_of(name: str) -> int:
    return sum(name.encode())


class TestFolder:
    """Images below a folder."""

    def test_labels_are_the_first_sub_folder(self, photos: Path) -> None:
        listing = folder(photos).list()
        assert [(e.path, e.label) for e in listing] == [
            ("cat/a.png", "cat"),
            ("cat/b.PNG", "cat"),
            ("dog/deep/c.png", "dog"),
        ]
        assert listing.class_names == ("cat", "dog")
        assert {e.checksum.split(":")[0] for e in listing} == {"sha256"}
        source = folder(photos)
        assert [source.read(e) for e in listing] == [(photos / e.path).read_bytes() for e in listing]

    def test_everything_else_is_named_with_a_reason(self, photos: Path) -> None:
        (photos / "cat" / "notes.txt").write_text("x")
        os.mkfifo(photos / "cat" / "pipe.txt")
        (photos / ".hidden.png").write_bytes(png(1))
        (photos / "root.png").write_bytes(png(2))
        (photos / "cat" / "gone.png").symlink_to("nowhere")
        os.mkfifo(photos / "cat" / "pipe.png")  # reading it would wait for ever
        listing = folder(photos).list()
        assert len(listing) == 3
        assert reasons(listing) == {
            "cat/notes.txt": "wrong_extension",
            "cat/pipe.txt": "wrong_extension",
            ".hidden.png": "wrong_extension",
            "root.png": "no_label",
            "cat/gone.png": "unreadable",
            "cat/pipe.png": "unreadable",
        }
        checksums = {item.path: item.checksum for item in listing.skipped}
        assert checksums["cat/gone.png"] is checksums["cat/pipe.png"] is checksums["cat/pipe.txt"] is None
        for path in ("cat/notes.txt", ".hidden.png", "root.png"):
            assert checksums[path] == "sha256:" + hashlib.sha256((photos / path).read_bytes()).hexdigest()
        (photos / "cat" / "notes.txt").write_text("y")
        assert folder(photos).list().digest == listing.digest, "a note is no image, whatever it says"

    def test_a_name_that_is_no_text_is_named_all_the_same(self, photos: Path) -> None:
        Path(os.fsdecode(os.fsencode(photos) + b"/cat/\xff.png")).write_bytes(png(1))
        listing = folder(photos).list()
        assert list(reasons(listing).values()) == ["unreadable"]
        assert len(listing.digest) == 64  # and it can be hashed

    def test_without_sub_folders_there_are_no_labels(self, tmp_path: Path) -> None:
        for i in range(3):
            (tmp_path / f"{i}.png").write_bytes(png(i))
        listing = folder(tmp_path).list()
        assert [e.label for e in listing] == [None] * 3
        assert listing.class_names == ()

    def test_the_digest_names_content_paths_and_labels(self, photos: Path) -> None:
        first = folder(photos).list().digest
        assert folder(photos).list().digest == first
        os.utime(photos / "cat" / "a.png", (1, 1))
        assert folder(photos).list().digest == first  # the content is the same
        (photos / "cat" / "a.png").write_bytes(png(99))
        second = folder(photos).list().digest
        (photos / "cat").rename(photos / "cow")
        assert len({first, second, folder(photos).list().digest}) == 3

    def test_a_file_that_changed_since_it_was_listed(self, photos: Path) -> None:
        source = folder(photos)
        entry = next(iter(source.list()))
        data = bytearray((photos / entry.path).read_bytes())
        data[-1] ^= 1
        (photos / entry.path).write_bytes(data)
        with pytest.raises(SourceChanged, match=r"cat/a.png .* changed since it was listed"):
            source.read(entry)
        (photos / entry.path).unlink()
        with pytest.raises(SourceChanged, match="run again"):
            source.read(entry)

    def test_a_missing_or_empty_folder_or_one_without_images(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"does not exist|empty or missing"):
            folder(tmp_path / "nowhere").list()
        with pytest.raises(SourceError, match="empty or missing"):
            folder(tmp_path).list()
        (tmp_path / "readme.txt").write_text("x")
        with pytest.raises(SourceError, match=r"no image .*1 wrong_extension, for example readme.txt"):
            folder(tmp_path).list()
        with pytest.raises(SourceError, match="is a file, a folder is expected"):
            folder(tmp_path / "readme.txt").list()

    @pytest.mark.parametrize("url", ["pipe:cat x", "simplecache::s3://b/x", "nosuch://x", "s3://key:secret@host/x"])
    def test_urls_that_are_refused(self, url: str) -> None:
        with pytest.raises(SourceError) as caught:
            folder(url).list()
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_memory_and_local_files_give_the_same_listing(self, photos: Path) -> None:
        memory = fsspec.filesystem("memory")
        for path in photos.rglob("*.*"):
            memory.pipe_file(f"/listing-test/{path.relative_to(photos)}", path.read_bytes())
        listing = folder("memory://listing-test").list()
        assert listing.digest == folder(photos).list().digest
        assert folder("memory://listing-test").read(next(iter(listing))) == (photos / "cat/a.png").read_bytes()

    def test_progress_is_told(self, photos: Path) -> None:
        seen: list[tuple[int, int | None]] = []
        folder(photos).list(lambda done, total: seen.append((done, total)))
        assert seen == [(1, None), (2, None), (3, None)]  # a source in pages does not know its end


class TestTables:
    """Labels from a table."""

    ROWS = (("cat/a.png", "007"), ("./cat/b.PNG", "8"), ("lost.png", "8"))

    def write(self, path: Path, rows: Any, columns: tuple[str, str] = ("path", "label")) -> Path:
        if path.suffix == ".csv":
            path.write_text(",".join(columns) + "\n" + "".join(f"{a},{'' if b is None else b}\n" for a, b in rows))
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
        else:
            pq.write_table(pa.table([list(column) for column in zip(*rows, strict=True)], names=list(columns)), path)
        return path

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    @pytest.mark.parametrize("inside", [True, False])
    def test_labels_come_from_the_table(self, photos: Path, suffix: str, inside: bool) -> None:
        table = self.write((photos if inside else photos.parent) / f"labels{suffix}", self.ROWS)
        listing = folder(photos, labels=str(table)).list()
        assert [(e.path, e.label) for e in listing] == [("cat/a.png", "007"), ("cat/b.PNG", "8")]
        assert reasons(listing) == {"dog/deep/c.png": "not_in_table", "lost.png": "missing_file"}
        assert listing.class_names == ("007", "8")  # numbers in numeric order

    def test_other_column_names_and_empty_labels(self, photos: Path) -> None:
        table = self.write(photos / "t.csv", [("cat/a.png", "x"), ("cat/b.PNG", None)], ("file", "class"))
        listing = folder(photos, labels=str(table), path_column="file", label_column="class").list()
        assert [e.path for e in listing] == ["cat/a.png"]
        assert reasons(listing)["cat/b.PNG"] == "no_label"

    def test_numeric_labels_sort_as_numbers(self, photos: Path) -> None:
        table = self.write(photos / "t.parquet", [("cat/a.png", 10), ("cat/b.PNG", 9)])
        assert folder(photos, labels=str(table)).list().class_names == ("9", "10")

    @pytest.mark.parametrize(
        ("name", "rows", "columns", "message"),
        [
            ("t.csv", [("a", "b")], ("file", "label"), "no column 'path'; its columns are file, label"),
            ("t.csv", [("a", "b"), ("./a", "c")], ("path", "label"), "gives a two labels: 'b' and 'c'"),
            ("t.csv", None, None, "does not exist"),
            ("t.txt", None, None, "ends in .csv, .jsonl"),
        ],
    )
    def test_tables_that_cannot_be_used(self, photos: Path, name: str, rows: Any, columns: Any, message: str) -> None:
        if rows is not None:
            self.write(photos / name, rows, columns)
        with pytest.raises(SourceError, match=message):
            folder(photos, labels=str(photos / name)).list()

    def test_a_damaged_table(self, photos: Path) -> None:
        (photos / "t.parquet").write_bytes(b"PAR1 nothing")
        with pytest.raises(SourceError, match=r"no readable .parquet table"):
            folder(photos, labels=str(photos / "t.parquet")).list()


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, str]]:
    """A bucket on an S3 server in this process, and its endpoint."""
    server_module = pytest.importorskip("moto.server")
    boto = pytest.importorskip("boto3")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in keys}
    os.environ.update(keys)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    boto.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="photos")
    yield "photos", endpoint
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def test_object_storage(bucket: tuple[str, str], photos: Path) -> None:
    name, endpoint = bucket
    fs = fsspec.filesystem("s3", endpoint_url=endpoint, use_listings_cache=False)
    for path in photos.rglob("*.*"):
        fs.pipe_file(f"{name}/set/{path.relative_to(photos)}", path.read_bytes())
    fs.pipe_file(f"{name}/set/cat/odd [1]#?%20.png", png(5))
    fs.pipe_file(f"{name}/set2/cat/other.png", png(5))  # a longer name is another folder
    fs.pipe_file(f"{name}/set/cat/notes.txt", b"x")
    fs.pipe_file(f"{name}/set/cat/", b"")  # what consoles leave for a folder
    source = folder(f"s3://{name}/set", endpoint_url=endpoint)
    listing = source.list()
    assert [e.path for e in listing] == ["cat/a.png", "cat/b.PNG", "cat/odd [1]#?%20.png", "dog/deep/c.png"]
    assert all(e.checksum.startswith("etag:") and '"' not in e.checksum for e in listing)
    assert [item.checksum for item in listing.skipped] == ["etag:" + hashlib.md5(b"x").hexdigest()]  # noqa: S324 - what S3 says
    assert source.read(next(iter(listing))) == (photos / "cat/a.png").read_bytes()
    fs.pipe_file(f"{name}/set/cat/new.png", png(6))  # what comes later is seen: no listing is cached
    assert len(source.list()) == 5
    with pytest.raises(SourceError, match=r"missing|exist"):
        folder(f"s3://{name}/nothing", endpoint_url=endpoint).list()
    with pytest.raises(SourceError, match="no-such-bucket"):
        folder("s3://no-such-bucket/x", endpoint_url=endpoint).list()


def test_digits() -> None:
    source = open_source(DigitsSource())
    listing = source.list()
    assert len(listing) == 1797
    assert listing.class_names == tuple("0123456789")
    assert Counter(e.label for e in listing)["3"] == 183
    first = next(iter(listing))
    with Image.open(__import__("io").BytesIO(source.read(first))) as image:
        values = np.asarray(image)
    assert (values.shape, first.label) == ((8, 8), "0")
    assert set(np.unique(values)) <= {round(level * 255 / 16) for level in range(17)}
    assert listing.digest == open_source(DigitsSource()).list().digest


class TestTorchvision:
    """Data sets of torchvision by name."""

    def test_fake_data(self) -> None:
        source = open_source(TorchvisionSource(name="FakeData"))
        source._images._data.size = 6  # type: ignore[attr-defined] # its thousand large images take long
        listing = source.list()
        assert len(listing) == 6
        assert all(e.label is not None and e.label.isdigit() for e in listing)
        assert source.read(next(iter(listing)))[:4] == b"\x89PNG"
        assert source.list().digest == listing.digest

    def test_threads_read_what_one_reads(self) -> None:
        """FakeData draws from torch's own generator: two threads at once gave other pixels than were listed."""
        source = open_source(TorchvisionSource(name="FakeData"))
        source._images._data.size = 6  # type: ignore[attr-defined] # its thousand large images take long
        entries = list(source.list())
        with ThreadPoolExecutor(8) as threads:
            assert {data[:4] for data in threads.map(source.read, entries * 8)} == {b"\x89PNG"}

    def test_an_unknown_name(self) -> None:
        with pytest.raises(SourceError, match=r"no data set 'CIFAR11'; did you mean CIFAR10"):
            open_source(TorchvisionSource(name="CIFAR11"))

    def test_what_is_not_there_and_cannot_be_had(self, tmp_path: Path) -> None:
        config = TorchvisionSource(name="CIFAR10", root=str(tmp_path), download=False)
        with pytest.raises(SourceError, match=r"CIFAR10 cannot be had .* put its files under source.root"):
            open_source(config)

    def test_a_split_that_it_does_not_have(self) -> None:
        with pytest.raises(SourceError, match="must be null: it has no splits, got 'train'"):
            open_source(TorchvisionSource(name="FakeData", split="train"))
        with pytest.raises(SourceError, match="must be 'train' or 'test', got 'val'"):
            open_source(TorchvisionSource(name="MNIST", split="val", download=False))
