"""Contract: a JSON beside an image gives it its label and goes with its record; nothing of it is silent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets.config import FolderSource, ShardConfig
from datasets.corpus import Corpus
from datasets.ingest.decode_pool import DecodePool
from datasets.sources import Listing, open_source
from tests.datasets.conftest import ingest
from tests.datasets.images import png

BOXES = [{"label": "hat", "box": [0.1, 0.2, 0.5, 0.9]}]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "x").mkdir(parents=True)
    for number in range(6):
        (root / "x" / f"{number}.v1.png").write_bytes(png(number))
        about = {"class": number % 2, "boxes": BOXES}
        (root / "x" / f"{number}.v1.json").write_text(json.dumps(about))
    return root


def source_of(root: Path) -> FolderSource:
    return FolderSource(url=str(root), sidecars=True, label_column="class")


def listed(root: Path) -> Listing:
    return open_source(source_of(root)).list()


def test_labels_and_metadata_come_from_sidecars(photos: Path, pool: DecodePool) -> None:
    result = ingest(ShardConfig(source=source_of(photos), size_px=16), pool)
    assert (result.summary["listed"], result.summary["kept"]) == (6, 6)
    corpus = Corpus(result.artifact)
    assert corpus.class_names == ("0", "1")
    for split, count in corpus.splits.items():
        for number in range(count):
            record, about = corpus.record(split, number), corpus.about(split, number)
            assert about["metadata"] == {"class": int(corpus.class_names[record.label]), "boxes": BOXES}
            assert about["source_path"] == record.source_path


def test_what_is_wrong_with_a_sidecar_is_said(photos: Path) -> None:
    (photos / "x" / "0.v1.json").write_text("{")
    (photos / "x" / "1.v1.json").write_text('{"class": [1]}')
    (photos / "x" / "2.v1.json").write_text('{"class": 1, "score": NaN}')
    (photos / "x" / "3.v1.json").unlink()
    (photos / "alone.json").write_text("{}")
    listing = listed(photos)
    assert [entry.path for entry in listing] == ["x/4.v1.png", "x/5.v1.png"]
    assert [(item.path, item.reason) for item in listing.skipped] == [
        ("alone.json", "no_image"),
        ("x/0.v1.png", "bad_sidecar"),
        ("x/1.v1.png", "bad_sidecar"),
        ("x/2.v1.png", "bad_sidecar"),
        ("x/3.v1.png", "no_label"),
    ]


def test_another_sidecar_is_another_entry(photos: Path) -> None:
    first = listed(photos)
    (photos / "x" / "0.v1.json").write_text(json.dumps({"class": 0, "boxes": []}))
    second = listed(photos)
    changed = [a.path for a, b in zip(first, second, strict=True) if a.identity != b.identity]
    assert changed == ["x/0.v1.png"]
    assert first.digest != second.digest


def test_labels_come_from_one_place() -> None:
    with pytest.raises(ValueError, match="from sidecars or from a table, not from both"):
        FolderSource(url="x", sidecars=True, labels="labels.csv")
