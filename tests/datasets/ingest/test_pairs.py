"""Contract: what is kept beside an image lies under it pixel by pixel; what does not fit is named, not bent."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from datasets.config import FolderSource, ShardConfig, WebDatasetSource
from datasets.corpus import Corpus
from datasets.errors import IngestError, SourceChanged, SourceError
from datasets.ingest.build import UnitResult, build_unit
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.plan import plan_units
from datasets.pair_config import AlphaPair, FilesPair, LabelMaps, ValueMaps
from datasets.sources import open_source
from tests.datasets.conftest import ingest
from tests.datasets.images import png
from tests.s3_server import moto_endpoint, s3_url

__all__ = ["moto_endpoint", "s3_url"]

LABELS = LabelMaps(num_classes=5, void_label=255)
DEPTH = ValueMaps(bits=16)


def encoded(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def place(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def config(root: Path, **pairs: Any) -> ShardConfig:
    return ShardConfig(
        source=FolderSource(url=str(root)), size_px=16, crop="none", validation_fraction=0, pairs=pairs, min_size_px=4
    )


def labels(seed: int, size: tuple[int, int] = (20, 24), classes: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, size, dtype=np.uint8)


def reasons(files: dict[str, bytes]) -> dict[str, tuple[str, str]]:
    table = pq.read_table(io.BytesIO(files["quarantine.parquet"])).to_pylist()
    return {row["path"]: (row["reason"], row["detail"]) for row in table}


def test_a_parallel_folder_gives_every_image_its_partner(tmp_path: Path, pool: DecodePool) -> None:
    images = place(tmp_path / "images", {f"a/{i}_rgb.png": png(i) for i in range(4)} | {"b/lone_rgb.png": png(9)})
    maps = {f"a/{i}_ids.png": encoded(labels(i)) for i in range(4)}
    other = place(tmp_path / "maps", maps | {"a/orphan_ids.png": encoded(labels(8)), "a/notes.json": b"{}"})
    pair = FilesPair(url=str(other), pattern="{path}_ids.png", image_suffix="_rgb", holds=LABELS)
    result = ingest(config(images, segmentation=pair), pool)
    assert (result.summary["listed"], result.summary["kept"], result.summary["quarantined"]) == (7, 4, 3)
    assert reasons(result.files) == {
        "b/lone_rgb.png": ("no_partner", "segmentation: there is no b/lone_ids.png"),
        "segmentation:a/orphan_ids.png": ("no_image", "no image has this second file"),
        "segmentation:a/notes.json": ("no_image", "no image has this second file"),
    }
    assert result.summary["classes"] == {"a": 4}  # b has no image that can be used
    corpus = Corpus(result.artifact)
    assert corpus.planes == {"segmentation": LABELS}
    for number, record in enumerate(corpus.records("train", range(4))):
        stored = corpus.plane("train", number, "segmentation")
        assert stored.shape == (record.height, record.width)
        source = labels(int(record.source_path[2]))
        nearest = np.asarray(Image.fromarray(source).resize(stored.shape[::-1], Image.Resampling.NEAREST))
        assert (stored == nearest).all()


def test_partners_beside_their_images_are_no_images(tmp_path: Path, pool: DecodePool) -> None:
    files = {f"{i}.png": png(i) for i in range(3)}
    depth = {f"{i}_depth.png": encoded(np.full((20, 24), 1000 * i, np.uint16)) for i in range(3)}
    root = place(tmp_path, files | depth | {"x_depth.png": png(7)})
    result = ingest(config(root, depth=FilesPair(pattern="{path}_depth.png", holds=DEPTH)), pool)
    assert result.summary["kept"] == 3
    assert reasons(result.files) == {"x_depth.png": ("no_partner", "depth: there is no x_depth_depth.png")}
    corpus = Corpus(result.artifact)
    stored = {corpus.record("train", n).source_path: corpus.plane("train", n, "depth") for n in range(3)}
    assert {path: np.unique(levels).tolist() for path, levels in stored.items()} == {
        f"{i}.png": [1000 * i] for i in range(3)
    }
    assert stored["0.png"].dtype == np.uint16


def test_a_folder_of_partners_inside_the_source(tmp_path: Path, pool: DecodePool) -> None:
    root = place(tmp_path, {"1.png": png(1), "maps/1.png": encoded(labels(1))})
    result = ingest(config(root, maps=FilesPair(url=str(root / "maps"), holds=LABELS)), pool)
    assert (result.summary["kept"], result.summary["listed"]) == (1, 1)


@pytest.mark.parametrize(
    ("pair", "partner", "reason", "detail"),
    [
        (LABELS, encoded(np.full((20, 24), 7, np.uint8)), "label_outside", "label 7 is outside the classes 0 to 4"),
        (LABELS, png(1), "partner_mode", "mode RGB: a label map has one channel of whole numbers"),
        (LABELS, encoded(labels(1, (24, 20))), "partner_size", "20×24 pixels, the image has 24×20"),
        (LABELS, b"", "partner_unusable", "the file has no bytes"),
        (LABELS, encoded(labels(1))[:90], "partner_unusable", "OSError"),
        (LABELS, b"<html>", "partner_unusable", "no image format"),
        (ValueMaps(), encoded(np.zeros((20, 24), np.uint16)), "partner_mode", "1 channels of 16 bits; pairs.p.holds"),
        (
            DEPTH,
            encoded(np.zeros((20, 24), np.uint8)),
            "partner_mode",
            "1 channels of 8 bits; pairs.p.holds asks for 1",
        ),
        (ValueMaps(channels=3), encoded(np.zeros((20, 24, 4), np.uint8)), "partner_mode", "4 channels of 8 bits"),
    ],
    ids=["outside", "colour", "size", "empty", "cut", "page", "deep", "shallow", "channels"],
)
def test_what_does_not_fit_is_quarantined(
    tmp_path: Path, pool: DecodePool, pair: Any, partner: bytes, reason: str, detail: str
) -> None:
    root = place(tmp_path / "images", {"bad.png": png(0)})
    place(tmp_path / "maps", {"bad.png": partner})
    asked = config(root, p=FilesPair(url=str(tmp_path / "maps"), holds=pair))
    with pytest.raises(
        IngestError, match=rf"no image of the source can be used \(1 {reason}; for example bad.png: p: "
    ):
        ingest(asked, pool)
    source = open_source(asked.source, asked.pairs)
    row = build_unit(next(plan_units(source.list(), asked)), source, asked, pool).quarantined[0]
    assert (row.reason, detail in row.detail, "\n" in row.detail) == (reason, True, False)


def test_labels_of_other_spellings(tmp_path: Path, pool: DecodePool) -> None:
    levels = labels(3)
    levels[0, 0] = 255
    palette = Image.fromarray(levels).convert("P")
    palette.putdata(levels.reshape(-1).tolist())
    palette.putpalette([7, 7, 7] * 256)  # of the colours nothing is read
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    maps = {
        "palette.png": buffer.getvalue(),
        "deep.png": encoded(levels.astype(np.uint16)),
        "plain.png": encoded(levels),
    }
    root = place(tmp_path / "images", {name: png(i) for i, name in enumerate(maps)})
    place(tmp_path / "maps", maps)
    corpus = Corpus(ingest(config(root, p=FilesPair(url=str(tmp_path / "maps"), holds=LABELS)), pool).artifact)
    assert corpus.num_records("train") == 3
    for number in range(3):
        assert (corpus.plane("train", number, "p") == corpus.plane("train", 0, "p")).all()
        assert corpus.plane("train", number, "p")[0, 0] == 4  # void is the last class


def test_values_are_resized_channel_by_channel_and_to_full_depth(tmp_path: Path, pool: DecodePool) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64, dtype=np.uint16), (32, 1))
    four = np.random.default_rng(0).integers(0, 256, (32, 64, 4), dtype=np.uint8)
    four[..., 3] = 0  # as an opacity it would wipe out the others
    root = place(tmp_path / "i", {"x.png": png(1, (64, 32))})
    place(tmp_path / "d", {"x.png": encoded(ramp)})
    place(tmp_path / "n", {"x.png": encoded(four)})
    pairs = {
        "d": FilesPair(url=str(tmp_path / "d"), holds=DEPTH),
        "n": FilesPair(url=str(tmp_path / "n"), holds=ValueMaps(channels=4)),
    }
    corpus = Corpus(ingest(config(root, **pairs), pool).artifact)
    deep = corpus.plane("train", 0, "d")[0, 1:-1, 0].astype(int)
    assert (abs(np.diff(deep) - 65535 / 31.5) < 3).all()
    assert corpus.plane("train", 0, "n").shape == (16, 32, 4)
    assert corpus.plane("train", 0, "n")[..., :3].mean() > 100


def test_alpha_is_a_label_map(shared_data: Path, tmp_path: Path, pool: DecodePool) -> None:
    with tarfile.open(shared_data / "emoji128.tar") as tar:
        tar.extractall(tmp_path, members=tar.getmembers()[1:1200:60], filter="data")
    asked = ShardConfig(source=FolderSource(url=str(tmp_path)), size_px=128, pairs={"mask": AlphaPair()})
    corpus = Corpus(ingest(asked, pool).artifact)
    assert corpus.planes == {"mask": LabelMaps(num_classes=2)}
    for number in range(corpus.num_records("train")):
        with Image.open(tmp_path / corpus.record("train", number).source_path) as image:
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        assert (corpus.plane("train", number, "mask") == (alpha >= 128)).all()
        assert (corpus.image("train", number)[alpha == 0] == 255).all()  # the background


def test_an_image_without_transparency_is_opaque_everywhere(tmp_path: Path, pool: DecodePool) -> None:
    corpus = Corpus(ingest(config(place(tmp_path, {"x.png": png(1)}), mask=AlphaPair()), pool).artifact)
    assert np.unique(corpus.plane("train", 0, "mask")).tolist() == [1]


def test_a_tar_reader_sees_the_planes_as_fields(tmp_path: Path, pool: DecodePool) -> None:
    result = ingest(config(place(tmp_path, {"x.png": png(1)}), mask=AlphaPair()), pool)
    with tarfile.open(fileobj=io.BytesIO(result.files["train-000000.tar"])) as tar:
        assert [name.partition(".")[2] for name in tar.getnames()] == ["png", "mask.png", "json"]


class TestFingerprints:
    """Corpora from before there were pairs keep theirs; a changed second file makes another corpus."""

    def test_no_pairs_no_trace(self, tmp_path: Path) -> None:
        asked = config(place(tmp_path, {"x.png": png(1)}))
        assert "pairs" not in asked.recipe()
        entry = next(iter(open_source(asked.source).list()))
        assert entry.identity == [entry.path, entry.bytes, entry.checksum, entry.label]

    def test_where_the_files_are_does_not_count_but_what_they_are(self, tmp_path: Path) -> None:
        root = place(tmp_path / "i", {"x.png": png(1)})
        found = []
        for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
            place(tmp_path / folder, {"x.png": encoded(labels(seed))})
            asked = config(root, p=FilesPair(url=str(tmp_path / folder), holds=LABELS))
            listing = open_source(asked.source, asked.pairs).list()
            found.append((listing.digest, next(plan_units(listing, asked)).key))
        assert found[0] == found[1]
        assert found[0][0] != found[2][0]
        assert found[0][1] != found[2][1]
        assert config(root, p=AlphaPair()).recipe()["pairs"] == {"p": {"kind": "alpha", "threshold": 128}}

    def test_a_unit_survives_its_tables(self, tmp_path: Path, pool: DecodePool) -> None:
        result = ingest(config(place(tmp_path, {"x.png": png(1)}), mask=AlphaPair()), pool)
        files = result.results[0].to_files()
        unit = next(plan_units(result.listing, config(tmp_path, mask=AlphaPair())))
        assert UnitResult.from_files(unit, files.__getitem__).records == result.results[0].records


def test_a_partner_that_changes_while_it_is_read(tmp_path: Path, pool: DecodePool) -> None:
    root = place(tmp_path / "i", {"x.png": png(1)})
    place(tmp_path / "m", {"x.png": encoded(labels(1))})
    asked = config(root, p=FilesPair(url=str(tmp_path / "m"), holds=LABELS))
    source = open_source(asked.source, asked.pairs)
    unit = next(plan_units(source.list(), asked))
    (tmp_path / "m/x.png").write_bytes(encoded(labels(2)))
    with pytest.raises(SourceChanged, match=r"x.png of .*/m changed since it was listed"):
        build_unit(unit, source, asked, pool)


def test_pairs_that_cannot_be(tmp_path: Path) -> None:
    files = FilesPair(holds=LABELS)
    with pytest.raises(ValidationError, match=r"pairs.p of kind files needs a source of kind folder, got webdataset"):
        ShardConfig(source=WebDatasetSource(urls=("x.tar",)), pairs={"p": files})
    with pytest.raises(ValidationError, match=r"16 bits come with one channel"):
        ValueMaps(channels=3, bits=16)
    with pytest.raises(ValidationError, match="pattern"):
        FilesPair(pattern="mask.png", holds=LABELS)
    with pytest.raises(ValidationError, match="pattern"):
        ShardConfig(pairs={"A/b": AlphaPair()})
    root = place(tmp_path, {"x.png": png(1)})
    asked = config(root, p=FilesPair(url=str(tmp_path / "nowhere"), holds=LABELS))
    with pytest.raises(SourceError, match=r"nowhere|no_partner"):
        open_source(asked.source, asked.pairs).list()


def test_second_files_on_object_storage(s3_url: str, pool: DecodePool) -> None:
    remote = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    for i in range(3):
        remote.pipe_file(f"{s3_url}/raw/{i}.png", png(i))
        remote.pipe_file(f"{s3_url}/raw/{i}_seg.png", encoded(labels(i)))
    asked = ShardConfig(
        source=FolderSource(url=f"{s3_url}/raw"), size_px=16, validation_fraction=0,
        pairs={"seg": FilesPair(pattern="{path}_seg.png", holds=LABELS)},
    )  # fmt: skip
    corpus = Corpus(ingest(asked, pool).artifact)
    assert [corpus.plane("train", number, "seg").shape for number in range(3)] == [(16, 16)] * 3
