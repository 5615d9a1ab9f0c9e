"""Contract: shards of others are read whole or named as damaged; no sample is lost in silence."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from datasets.config import WebDatasetSource
from datasets.errors import SourceError
from datasets.ingest.tar import write_tar
from datasets.sources import Listing, open_source
from datasets.sources.webdataset_shards import expand_braces
from tests.datasets.images import png

SAMPLES = [(f"{i:03d}", png(i), str(i % 2)) for i in range(10)]


def shard(path: Path, samples: Any = SAMPLES) -> bytes:
    members = [
        pair for key, image, label in samples for pair in ((f"{key}.png", image), (f"{key}.cls", label.encode()))
    ]
    data, _ = write_tar(members)
    path.write_bytes(data)
    return data


def source(*urls: object, **options: Any) -> Any:
    return open_source(WebDatasetSource(urls=tuple(map(str, urls)), **options))


def reasons(listing: Listing) -> list[str]:
    return [item.reason for item in listing.skipped]


def test_samples_labels_and_bytes(tmp_path: Path) -> None:
    shard(tmp_path / "s-000.tar", SAMPLES[:6])
    shard(tmp_path / "s-001.tar", SAMPLES[6:])
    webdataset = source(tmp_path / "s-{000..001}.tar")
    listing = webdataset.list()
    assert [(e.path, e.label) for e in listing] == [
        (f"{tmp_path}/s-00{int(key) // 6}.tar/{key}.png", label) for key, _, label in SAMPLES
    ]
    assert [webdataset.read(e) for e in listing] == [image for _, image, _ in SAMPLES]
    assert (
        source(tmp_path / "s-{000..001}.tar").read(next(iter(listing))) == SAMPLES[0][1]
    )  # an entry stands on its own
    assert listing.num_skipped == 0


def test_what_webdatasets_own_writer_writes_is_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for key, image, label in SAMPLES:
            writer.write({"__key__": f"train/{key}", "png": image, "json": {"label": int(label), "other": [1]}})
    listing = source(tmp_path / "a.tar", label_field="label").list()
    assert [e.label for e in listing] == [label for _, _, label in SAMPLES]
    assert source(tmp_path / "a.tar", label_field=None).list().class_names == ()


@pytest.mark.parametrize("where", ["border", "header", "data"])
def test_a_cut_shard_keeps_what_is_before_and_is_named(tmp_path: Path, where: str) -> None:
    data = shard(tmp_path / "a.tar")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        third = tar.getmember("003.png")
    cut = {"border": third.offset, "header": third.offset + 100, "data": third.offset_data + 10}[where]
    (tmp_path / "a.tar").write_bytes(data[:cut])
    shard(tmp_path / "b.tar", [("zzz", png(77), "1")])
    listing = source(tmp_path / "a.tar", tmp_path / "b.tar").list()
    # Sample 002 is whole here, but nobody can know that: its next part may be what was cut off.
    assert [e.path.rpartition("/")[2] for e in listing] == ["000.png", "001.png", "zzz.png"]
    assert reasons(listing) == ["damaged_shard"]
    assert next(listing.skipped).path == str(tmp_path / "a.tar")
    assert f"at byte {third.offset if where != 'data' else third.offset_data}" in next(listing.skipped).detail
    assert "the sample 002 before it is left out" in next(listing.skipped).detail


def test_a_corrupt_header_in_the_middle_is_named(tmp_path: Path) -> None:
    data = bytearray(shard(tmp_path / "a.tar"))
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
        data[tar.getmember("005.png").offset + 3] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    listing = source(tmp_path / "a.tar").list()
    assert len(listing) == 4
    assert "a header is corrupt" in next(listing.skipped).detail


def test_samples_without_an_image_or_label_and_names_that_occur_twice(tmp_path: Path) -> None:
    image = png(0)
    members = [
        ("a.txt", b"caption"),
        ("b.png", image),
        ("b.cls", b"1"),
        ("c.png", image),
        ("d.png", image),
        ("d.cls", b"0\n"),
        ("d.png", image),
        ("e.mask.png", image),
        ("f.json", b"{broken"),
        ("f.png", image),
    ]
    (tmp_path / "a.tar").write_bytes(write_tar(members)[0])
    listing = source(tmp_path / "a.tar").list()
    assert [(e.path[-5:], e.label) for e in listing] == [("b.png", "1"), ("d.png", "0")]
    assert [(i.path.rpartition("/")[2], i.reason) for i in listing.skipped] == [
        ("a", "no_image_field"),
        ("c.png", "no_label"),
        ("d.png", "duplicate_name"),
        ("e", "no_image_field"),
        ("f", "unreadable"),
    ]


def test_a_sample_set_of_ours_is_a_source_again(tmp_path: Path) -> None:
    members = [("k1.png", png(1)), ("k1.json", json.dumps({"label": "shoe", "seed": 3}).encode())]
    (tmp_path / "a.tar").write_bytes(write_tar(members)[0])
    assert [e.label for e in source(tmp_path / "a.tar", label_field="label").list()] == ["shoe"]


def test_urls_that_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    for url in (f"pipe:touch {marker}; cat a.tar", f"{{pipe:touch {marker},x}}.tar"):
        with pytest.raises(SourceError, match=r"pipe: URLs run shell commands and are refused"):
            source(url).list()
    assert not marker.exists()
    with pytest.raises(SourceError, match="compressed tars"):
        source(tmp_path / "a.tar.gz")
    with pytest.raises(SourceError, match="does not exist"):
        source(tmp_path / "a.tar").list()


def test_brace_expansion() -> None:
    assert expand_braces("a-{008..011}.tar") == [f"a-{i:03d}.tar" for i in range(8, 12)]
    assert expand_braces("{x,y}/{0..1}") == ["x/0", "x/1", "y/0", "y/1"]
    assert expand_braces("plain.tar") == ["plain.tar"]
    for bad in ("a{1", "a}1", "a{5..2}", "a{0..9999999}", "{0..9999}{0..9999}", "a{{1..2}}", "a{}"):
        with pytest.raises(SourceError):
            expand_braces(bad)
