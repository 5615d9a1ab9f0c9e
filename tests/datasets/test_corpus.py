"""Contract: batches are a pure function of (corpus, arguments, step); every record comes once; damage is named."""

from __future__ import annotations

import itertools
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.config import FolderSource, ShardConfig
from datasets.corpus import Corpus
from datasets.errors import CorpusError
from datasets.files import MemoryFiles
from datasets.images import DecodedCache
from datasets.ingest.decode_pool import DecodePool
from datasets.views import PlacedView
from tests.datasets.conftest import Ingested, ingest
from tests.datasets.images import png
from vqgan_core.config import AugmentConfig


@pytest.fixture(scope="session")
def corpus(digits: Ingested) -> Corpus:
    return Corpus.open(digits.artifact)


@pytest.fixture(scope="session")
def wide(pool: DecodePool, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve RGB images without labels, short side 16, of different widths."""
    root = tmp_path_factory.mktemp("wide")
    for i in range(12):
        (root / f"{i}.png").write_bytes(png(i, (24 + i, 16)))
    config = ShardConfig(source=FolderSource(url=str(root)), size_px=16, crop="none", images_per_shard=5)
    return Corpus(ingest(config.model_copy(update={"validation_fraction": 0.0}), pool).artifact)


def take(batches: Any, start: int, count: int) -> list[dict[str, torch.Tensor]]:
    iterator = batches(start)
    try:
        return list(itertools.islice(iterator, count))
    finally:
        iterator.close()


def same(first: list[dict[str, torch.Tensor]], second: list[dict[str, torch.Tensor]]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(first, second, strict=True)
    )


def test_what_a_corpus_says_of_itself(corpus: Corpus, digits: Ingested) -> None:
    assert corpus.class_names == tuple("0123456789")
    assert (corpus.size_px, corpus.channels, corpus.num_classes) == (32, 1, 10)
    assert corpus.splits == digits.summary["splits"]
    assert corpus.num_records("test") == 0
    assert corpus.shards("train") == [f"train-{i:06d}.tar" for i in range(3)]
    record = corpus.record("val", 3)
    assert corpus.labels("val")[3] == record.label
    assert len(record.source_sha256) == 64
    assert corpus.image("val", 3).shape == (32, 32, 1)


def test_a_batch_is_float_in_range_with_its_labels(corpus: Corpus) -> None:
    batch = take(corpus.batches("train", 16, seed=0), 0, 1)[0]
    assert (batch["images"].shape, batch["images"].dtype) == ((16, 1, 32, 32), torch.float32)
    assert (batch["labels"].shape, batch["labels"].dtype) == ((16,), torch.int64)
    assert batch["images"].is_contiguous()
    assert -1 <= batch["images"].min() < -0.9  # black stays black
    assert 0.9 < batch["images"].max() <= 1
    levels = (batch["images"] + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4


@pytest.mark.parametrize(
    "options", [{"num_threads": 1}, {"num_threads": 5}, {"cache_bytes": 1 << 30}, {"cache_bytes": 20_000}]
)
def test_threads_and_cache_change_nothing(corpus: Corpus, options: dict[str, int]) -> None:
    augment = AugmentConfig(random_crop=True, horizontal_flip=True)
    reference = take(corpus.batches("train", 24, seed=3, size_px=28, augment=augment), 0, 90)  # past the first epoch
    assert same(take(corpus.batches("train", 24, seed=3, size_px=28, augment=augment, **options), 0, 90), reference)


def test_a_start_in_the_middle_continues_the_stream(corpus: Corpus) -> None:
    augment = AugmentConfig(random_crop=True, horizontal_flip=True)
    whole = take(corpus.batches("train", 24, seed=3, size_px=24, augment=augment), 0, 80)
    for start in (1, 70, 79):
        tail = take(corpus.batches("train", 24, seed=3, size_px=24, augment=augment), start, 80 - start)
        assert same(tail, whole[start:])


def test_every_record_comes_exactly_once_an_epoch(corpus: Corpus) -> None:
    total = corpus.num_records("train")
    steps = -(-2 * total // 50)
    pixels = torch.cat([b["images"] for b in take(corpus.batches("train", 50, seed=1), 0, steps)])[: 2 * total]
    names = [row.numpy().tobytes() for row in pixels]
    stored = Counter(row.numpy().tobytes() for b in corpus.sequential("train", 100) for row in b["images"])
    assert Counter(names[:total]) == stored  # an epoch may end inside a batch; it is an epoch all the same
    assert Counter(names[total:]) == stored
    assert names[:total] != names[total:]


def test_a_batch_larger_than_the_corpus(wide: Corpus) -> None:
    batch = take(wide.batches("train", 30, seed=0), 0, 1)[0]
    counts = Counter(row.numpy().tobytes() for row in batch["images"])
    assert (len(counts), sorted(counts.values())) == (12, [2] * 6 + [3] * 6)
    assert set(batch["labels"].tolist()) == {-1}  # no classes


def test_sequential_gives_every_record_once_in_key_order(corpus: Corpus) -> None:
    images = corpus.sequential("val", 32)
    batches = list(images)
    total = corpus.num_records("val")
    assert [len(b["labels"]) for b in batches] == [32] * (total // 32) + ([total % 32] if total % 32 else [])
    assert torch.cat([b["labels"] for b in batches]).tolist() == corpus.labels("val").tolist()
    expected = torch.tensor(corpus.image("val", 0)).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(batches[0]["images"][0], expected)
    assert same(list(images), batches)  # again
    assert [len(b["labels"]) for b in corpus.sequential("val", 32, limit=40)] == [32, 8]
    assert list(corpus.sequential("test", 8)) == []


def test_two_processes_share_batches_and_passes(corpus: Corpus) -> None:
    augment = AugmentConfig(random_crop=True, horizontal_flip=True)
    batches = corpus.batches("train", 24, seed=3, size_px=24, augment=augment)
    whole = batches.batch(7)
    shares = [batches.share(rank, 2, num_pieces=3).batch(7) for rank in range(2)]
    for name, values in whole.items():
        pieces = [torch.cat([share[name].chunk(3)[piece] for share in shares]) for piece in range(3)]
        assert torch.equal(torch.cat(pieces), values)
    with pytest.raises(ValueError, match="rank 0 of 5 cannot take an equal share of a batch of 24"):
        batches.share(0, 5)
    everything = corpus.sequential("val", 16, limit=33)
    numbers = [everything.share(rank, 2).numbers.tolist() for rank in range(2)]
    assert [len(part) for part in numbers] == [17, 16]
    assert sorted(numbers[0] + numbers[1]) == everything.numbers.tolist()
    assert sum(len(batch["images"]) for batch in everything.share(1, 2)) == 16


def test_shards_partition_a_split(corpus: Corpus) -> None:
    numbers = [corpus.sequential("train", 64, shard=shard).numbers.tolist() for shard in corpus.shards("train")]
    assert sorted(itertools.chain(*numbers)) == list(range(corpus.num_records("train")))
    assert all(part == sorted(part) for part in numbers)
    keys = {corpus.record("train", n).shard for n in numbers[1]}
    assert keys == {corpus.shards("train")[1]}
    first = next(iter(corpus.sequential("train", 8, shard=corpus.shards("train")[1])))
    assert first["labels"].tolist() == [corpus.record("train", n).label for n in numbers[1][:8]]
    with pytest.raises(CorpusError, match=r"has no shard nothing.tar"):
        corpus.sequential("train", 8, shard="nothing.tar")


def test_mirrored_is_mirrored(corpus: Corpus) -> None:
    plain, mirrored = (next(iter(corpus.sequential("val", 4, view=PlacedView(mirrored=m)))) for m in (False, True))
    assert torch.equal(plain["images"].flip(-1), mirrored["images"])


def test_augmentation_draws_crops_and_mirrors(wide: Corpus) -> None:
    augment = AugmentConfig(random_crop=True, horizontal_flip=True)
    places, mirrors = Counter[int](), Counter[bool]()
    stored = [wide.image("train", i) for i in range(12)]
    for batch in take(wide.batches("train", 12, seed=5, augment=augment), 0, 30):
        for row in ((batch["images"] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
            found = [
                (left, m)
                for image in stored
                for left in range(image.shape[1] - 15)
                for m in (False, True)
                if (row == (image[:, left : left + 16][:, ::-1] if m else image[:, left : left + 16])).all()
            ]
            assert len(found) == 1  # it is a crop of exactly one image
            places[found[0][0]] += 1
            mirrors[found[0][1]] += 1
    assert 130 < mirrors[True] < 230
    assert {0, 8} <= set(places)


def test_another_size_and_rectangles(corpus: Corpus, wide: Corpus) -> None:
    full = next(iter(corpus.sequential("val", 2)))["images"]
    assert torch.equal(next(iter(corpus.sequential("val", 2, size_px=20)))["images"], full[..., 6:26, 6:26])
    assert next(iter(wide.sequential("train", 2, size_px=(8, 24))))["images"].shape == (2, 3, 8, 24)
    with pytest.raises(CorpusError, match=r"64×64 are asked of a corpus whose smallest is 32 high and 32 wide; shard"):
        corpus.batches("train", 8, seed=0, size_px=64)
    with pytest.raises(CorpusError, match=r"no record in split .test."):
        corpus.batches("test", 8, seed=0)


def test_a_damaged_shard_is_named_not_used(digits: Ingested) -> None:
    files = dict(digits.files)
    record = Corpus(MemoryFiles(files)).record("train", 0)
    shard = bytearray(files[record.shard])
    index = next(i for i in range(512, len(shard)) if shard[i : i + 4] == b"IDAT")
    shard[index + 8] ^= 1
    damaged = Corpus(MemoryFiles(files | {record.shard: bytes(shard)}))
    with pytest.raises(CorpusError, match=rf"is damaged: bytes \d+ to \d+ of {record.shard}"):
        [damaged.record_bytes("train", number) for number in range(damaged.num_records("train"))]
    with pytest.raises(CorpusError, match="is damaged"):
        list(damaged.sequential("train", 64))  # also where a thread reads


def test_damaged_and_foreign_indexes(digits: Ingested) -> None:
    index = bytearray(digits.files["index.parquet"])
    index[len(index) // 3] ^= 4
    with pytest.raises(CorpusError, match=r"index.parquet cannot be read"):
        Corpus(MemoryFiles(digits.files | {"index.parquet": bytes(index)}))
    unit = digits.results[0].to_files()["records-000000.parquet"]
    with pytest.raises(CorpusError, match="has corpus format None"):
        Corpus(MemoryFiles(digits.files | {"index.parquet": unit}))


def test_the_cache_keeps_to_its_limit() -> None:
    cache = DecodedCache(1000)
    made = []

    def make(number: int) -> np.ndarray:
        made.append(number)
        return np.full((10, 10, 4), number, np.uint8)

    for number in (0, 1, 2, 0, 1, 2):
        assert cache.get(number, partial(make, number))[0, 0, 0] == number
    assert cache.used_bytes == 800
    assert made == [0, 1, 2, 2]


@pytest.mark.slow
def test_clothing_goes_all_the_way(shared_data: Path, tmp_path: Path, pool: DecodePool) -> None:
    with tarfile.open(shared_data / "clothing128.tar") as tar:
        tar.extractall(tmp_path, members=tar.getmembers()[::12], filter="data")
    config = ShardConfig(source=FolderSource(url=str(tmp_path / "clothing128")), size_px=96, images_per_shard=100)
    result = ingest(config, pool)
    clothes = Corpus(result.artifact)
    assert result.summary["listed"] == result.summary["kept"] + result.summary["duplicates"] > 300
    assert clothes.num_classes == 10
    batch = take(clothes.batches("train", 8, seed=0, size_px=64, augment=AugmentConfig(random_crop=True)), 5, 1)[0]
    assert batch["images"].shape == (8, 3, 64, 64)


def test_emoji_lie_on_the_background_and_have_no_labels(shared_data: Path, tmp_path: Path, pool: DecodePool) -> None:
    with tarfile.open(shared_data / "emoji128.tar") as tar:
        tar.extractall(tmp_path, members=tar.getmembers()[1:1200:30], filter="data")
    source = FolderSource(url=str(tmp_path / "emoji128"))
    config = ShardConfig(source=source, size_px=64, background=(0, 255, 0), format="webp")
    emoji = Corpus(ingest(config, pool).artifact)
    assert (emoji.num_classes, set(emoji.labels("train").tolist())) == (0, {-1})
    corners = [emoji.image("train", i)[0, 0].tolist() for i in range(emoji.num_records("train"))]
    assert corners.count([0, 255, 0]) > 0.8 * len(corners)
