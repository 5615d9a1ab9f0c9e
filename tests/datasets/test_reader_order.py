"""Which circumstances may change what a training run reads, and which may not."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.config import FolderSource, ShardConfig
from datasets.corpus import IMAGES, Corpus
from datasets.ingest.decode_pool import DecodePool
from tests.datasets.conftest import ingest
from tests.datasets.images import png
from vqgan_core.config import AugmentConfig, EdgesPlane

NUM, BATCH, STEPS = 60, 12, 12  # two epochs and a bit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("noise")
    for i in range(NUM):
        (root / f"{i}.png").write_bytes(png(i, (16, 16)))
    return root


@pytest.fixture(scope="module")
def corpus(folder: Path, pool: DecodePool) -> Corpus:
    return cut(folder, pool, 13)


def cut(folder: Path, pool: DecodePool, images_per_shard: int) -> Corpus:
    """The images as a corpus of shards of so many, and a shorter one."""
    config = ShardConfig(source=FolderSource(url=str(folder)), size_px=16, images_per_shard=images_per_shard)
    return Corpus(ingest(config.model_copy(update={"validation_fraction": 0.1}), pool).artifact)


def seen(corpus: Corpus, world_size: int = 1, num_pieces: int = 1, start: int = 0, **options: Any) -> list[str]:
    """Keys of the records that the ranks together read, in the order of the global batches."""
    by_pixels = _names(corpus)
    whole = corpus.batches("train", BATCH, **{"seed": 3, **options})
    ranks = [whole.share(rank, world_size, num_pieces)(start) for rank in range(world_size)]
    found: list[str] = []
    for _ in range(start, STEPS):
        parts = [next(rank)["images"] for rank in ranks]
        pieces = [part.chunk(num_pieces) for part in parts]
        rows = torch.cat([piece[i] for i in range(num_pieces) for piece in pieces])
        found += [by_pixels[row.numpy().tobytes()] for row in rows]
    for rank in ranks:
        rank.close()  # type: ignore[attr-defined]  # a generator
    return found


_KEYS: dict[int, dict[bytes, str]] = {}


def _names(corpus: Corpus) -> dict[bytes, str]:
    """A key by its pixels: every image of noise looks different."""
    if id(corpus) not in _KEYS:
        numbers = itertools.count()
        _KEYS[id(corpus)] = {
            row.numpy().tobytes(): corpus.record("train", next(numbers)).key
            for batch in corpus.sequential("train", 256)
            for row in batch["images"]
        }
    return _KEYS[id(corpus)]


@pytest.mark.parametrize(
    "circumstance",
    [
        {"world_size": 2},
        {"world_size": 3, "num_pieces": 2},
        {"num_threads": 1},
        {"num_threads": 6},
        {"cache_bytes": 1 << 30},
        {"augment": AugmentConfig(random_crop=True)},  # of a corpus whose crops have no room
        {"planes": {**IMAGES, "edges": EdgesPlane()}},
    ],
    ids="-".join,
)
def test_nothing_about_the_machine_changes_the_order(corpus: Corpus, circumstance: dict[str, Any]) -> None:
    assert seen(corpus, **circumstance) == seen(corpus)


def test_a_run_goes_on_with_another_number_of_processes(corpus: Corpus) -> None:
    assert seen(corpus, world_size=4, start=7) == seen(corpus)[7 * BATCH :]


def test_the_seed_the_epoch_and_the_units_of_a_corpus_do(corpus: Corpus, folder: Path, pool: DecodePool) -> None:
    reference, total = seen(corpus), corpus.num_records("train")
    assert seen(corpus, seed=4) != reference
    first, second = reference[:total], reference[total : 2 * total]
    assert sorted(first) == sorted(second)
    assert first != second
    recut = cut(folder, pool, 20)
    assert recut.splits == corpus.splits
    assert seen(recut) != reference


def test_ranks_read_every_record_once_an_epoch_from_uneven_shards(corpus: Corpus) -> None:
    total = corpus.num_records("train")
    sizes = [len(corpus.shard_records("train", shard)) for shard in corpus.shards("train")]
    assert len(set(sizes)) > 1
    found = seen(corpus, world_size=3)
    assert set(Counter(found[:total]).values()) == {1}
    assert len(set(found[:total])) == total
    assert set(Counter(found[total : 2 * total]).values()) == {1}
