"""Contract: all planes of a record show the same pixels, whatever is cropped and mirrored; label maps stay uint8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.config import FolderSource, ShardConfig
from datasets.corpus import IMAGES, Corpus
from datasets.errors import CorpusError
from datasets.files import MemoryFiles
from datasets.ingest.decode_pool import DecodePool
from datasets.pair_config import FilesPair, LabelMaps, ValueMaps
from datasets.planes import edges, low_resolution
from datasets.views import PlacedView
from tests.datasets.conftest import Ingested, ingest
from vqgan_core.config import AugmentConfig, EdgesPlane, LowResolutionPlane, PlaneConfig, StoredPlane

HEIGHT, WIDTH, NUM = 24, 40, 6
PLANES: dict[str, PlaneConfig] = {
    **IMAGES,
    "label_maps": StoredPlane(name="columns"),
    "depth": StoredPlane(name="place"),
    "edges": EdgesPlane(),
    "small": LowResolutionPlane(factor=4),
}
AUGMENT = AugmentConfig(random_crop=True, horizontal_flip=True)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def made(pool: DecodePool, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Images whose pixels say where they are: red the column, green the row, blue the image; beside them the same."""
    root = tmp_path_factory.mktemp("places")
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for i in range(NUM):
        save(root / "images" / f"{i}.png", np.stack([x * 6, y * 6, np.full_like(x, i)], -1).astype(np.uint8))
        save(root / "columns" / f"{i}.png", (x % 7).astype(np.uint8))
        save(root / "place" / f"{i}.png", (1000 * x + y).astype(np.uint16))
    pairs = {
        "columns": FilesPair(url=str(root / "columns"), holds=LabelMaps(num_classes=7)),
        "place": FilesPair(url=str(root / "place"), holds=ValueMaps(bits=16)),
    }
    source = FolderSource(url=str(root / "images"))
    return ingest(ShardConfig(source=source, size_px=HEIGHT, crop="none", validation_fraction=0, pairs=pairs), pool)


@pytest.fixture(scope="module")
def places(made: Ingested) -> Corpus:
    return Corpus(made.artifact)


def levels(images: torch.Tensor) -> torch.Tensor:
    return ((images + 1) * 127.5).round().long()


def test_a_corpus_knows_its_planes(places: Corpus) -> None:
    assert places.planes == {"columns": LabelMaps(num_classes=7), "place": ValueMaps(bits=16)}


def test_every_plane_has_the_same_window(places: Corpus) -> None:
    batches = places.batches("train", 8, seed=3, size_px=(16, 20), augment=AUGMENT, planes=PLANES)(0)
    seen = set()
    for _ in range(6):
        batch = next(batches)
        columns, rows = (levels(batch["images"])[:, channel] // 6 for channel in (0, 1))
        assert batch["label_maps"].dtype == torch.uint8
        assert torch.equal(batch["label_maps"].long(), columns % 7)
        depth = ((batch["depth"][:, 0].double() + 1) * 32767.5).round().long()
        assert torch.equal(depth, 1000 * columns + rows)
        expected = batch["images"].unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
        assert torch.allclose(batch["small"], expected, atol=1e-6)
        seen |= {(int(c[0, 0] > c[0, 1]), int(c.min()), int(r.min())) for c, r in zip(columns, rows, strict=True)}
    batches.close()
    assert len(seen) > 30
    assert {mirrored for mirrored, _, _ in seen} == {0, 1}


def test_planes_leave_the_images_as_they_were(places: Corpus) -> None:
    alone = places.batches("train", 8, seed=3, size_px=16, augment=AUGMENT).batch(5)
    among = places.batches("train", 8, seed=3, size_px=16, augment=AUGMENT, planes=PLANES, cache_bytes=1 << 20).batch(5)
    assert set(alone) == {"images", "labels"}
    assert all(torch.equal(alone[name], among[name]) for name in alone)


def test_a_plane_in_place_of_the_images_reads_no_image(made: Ingested) -> None:
    files = dict(made.files)
    corpus = Corpus(MemoryFiles(files))
    shard = bytearray(files["train-000000.tar"])
    for record in corpus.records("train", range(NUM)):
        assert record.shard == "train-000000.tar"
    offsets = [row["offset"] for row in corpus.tables()["train"].to_pylist()]
    for offset in offsets:
        shard[offset + 40] ^= 1  # every image is damaged
    damaged = Corpus(MemoryFiles(files | {"train-000000.tar": bytes(shard)}))
    batch = next(iter(damaged.sequential("train", NUM, planes={"images": StoredPlane(name="place")})))
    assert batch["images"].shape == (NUM, 1, HEIGHT, HEIGHT)
    with pytest.raises(CorpusError, match="is damaged"):
        next(iter(damaged.sequential("train", NUM, planes=PLANES)))


def test_sequential_and_mirrored(places: Corpus) -> None:
    plain, mirrored = (
        next(iter(places.sequential("train", 4, planes=PLANES, view=PlacedView(mirrored=m)))) for m in (False, True)
    )
    for name in ("images", "label_maps", "depth", "small"):
        assert torch.equal(plain[name].flip(-1), mirrored[name])
    assert list(places.sequential("val", 4, planes=PLANES)) == []


def test_edges_lie_where_the_image_changes() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 200
    found = edges(image, EdgesPlane())
    assert (found.shape, set(np.unique(found).tolist())) == ((32, 32, 1), {0, 255})
    assert set(np.nonzero(found.any((0, 2)))[0].tolist()) <= {15, 16}
    assert edges(image[..., :1], EdgesPlane(sigma_px=0)).any()
    faint = np.where(image > 0, 10, 0).astype(np.uint8)
    assert not edges(faint, EdgesPlane()).any()
    assert edges(faint, EdgesPlane(low_threshold=5, high_threshold=10)).any()


def test_low_resolution_is_the_exact_mean() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    small = low_resolution(image, 8)
    assert small.shape == (3, 2, 3)
    assert small[1, 0, 2] == pytest.approx(image[:8, 16:, 1].mean() / 127.5 - 1, abs=1e-6)


def test_what_a_corpus_cannot_give(places: Corpus, digits: Ingested) -> None:
    with pytest.raises(CorpusError, match=r"keeps no plane 'depth' beside its images; it keeps columns, place: shard"):
        places.batches("train", 2, seed=0, planes={"x": StoredPlane(name="depth")})
    with pytest.raises(CorpusError, match=r"it keeps nothing: shard it with pairs.depth"):
        Corpus(digits.artifact).sequential("train", 2, planes={"x": StoredPlane(name="depth")})
    with pytest.raises(CorpusError, match=r"low_resolution by factor 5 of images of 24×24"):
        places.batches("train", 2, seed=0, planes={"x": LowResolutionPlane(factor=5)})
    with pytest.raises(CorpusError, match=r"a batch has labels of its own"):
        places.batches("train", 2, seed=0, planes={"labels": EdgesPlane()})


def test_a_damaged_plane_is_named(made: Ingested) -> None:
    corpus = Corpus(made.artifact)
    row = corpus.tables()["train"].to_pylist()[0]
    shard = bytearray(made.files[row["shard"]])
    shard[row["planes"][1]["offset"] + 30] ^= 1
    damaged = Corpus(MemoryFiles(made.files | {row["shard"]: bytes(shard)}))
    assert damaged.plane("train", 0, "columns").shape == (HEIGHT, WIDTH)
    with pytest.raises(CorpusError, match="is damaged"):
        damaged.plane("train", 0, "place")
