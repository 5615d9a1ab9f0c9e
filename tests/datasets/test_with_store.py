"""Contract: corpus and tokens work from a real store: units and token files as parts, read through the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.config import ShardConfig
from datasets.corpus import Corpus
from datasets.errors import CorpusError
from datasets.files import MemoryFiles
from datasets.ingest.build import UnitResult, build_unit
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import finish
from datasets.ingest.plan import plan_units
from datasets.sources import open_source
from datasets.store import Artifact, CorruptObject, Draft, Store, fingerprint
from datasets.token_file import TokenMeta, TokenRows, token_parquet
from datasets.tokens import TokenDataset
from tests.datasets.conftest import Ingested

CONFIG = ShardConfig(size_px=32, channels=1, images_per_shard=600)


def shard(store: Store, pool: DecodePool | None) -> Artifact:
    """The shard stage in small; without a pool every unit must be there already."""
    source = open_source(CONFIG.source)
    listing = source.list()
    parts, results = [], []
    for unit in plan_units(listing, CONFIG):
        part = store.part("shards", unit.key)
        if part is None:
            assert pool is not None, f"unit {unit.index} is built a second time"
            part = store.put_part("shards", unit.key, build_unit(unit, source, CONFIG, pool).to_files())
        parts.append(part)
        results.append(UnitResult.from_files(unit, lambda name, part=part: store.read_part(part, name)))
    locations = {entry.path.rpartition("/")[2]: entry.path for part in parts for entry in part.files}
    finished = finish(listing, results, CONFIG, locations)
    draft = Draft(
        kind="corpus",
        fingerprint=fingerprint("shard", 1, CONFIG.recipe() | {"listing": listing.digest}, []),
        stage="shard",
        stage_version=1,
        recipe=CONFIG.recipe(),
        files=finished.files,
        parts=parts,
        summary=finished.summary,
    )
    return store.get(store.publish(draft))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def artifact(store: Store, pool: DecodePool) -> Artifact:
    return shard(store, pool)


def test_a_corpus_from_the_store_is_that_in_memory(artifact: Artifact, digits: Ingested) -> None:
    stored, memory = Corpus.open(artifact), Corpus(MemoryFiles(digits.files))
    assert stored.splits == memory.splits
    one, two = (corpus.batches("train", 16, seed=0).batch(3) for corpus in (stored, memory))
    assert one["images"].equal(two["images"])
    assert one["labels"].equal(two["labels"])
    assert all(path.startswith("../../parts/shards/") for path in stored.shards("train"))


def test_units_that_are_there_are_not_built_again(store: Store, artifact: Artifact) -> None:
    assert shard(store, None).ref == artifact.ref


def test_token_files_as_parts(store: Store, artifact: Artifact) -> None:
    corpus = Corpus.open(artifact)
    meta = TokenMeta(
        tokenizer_fingerprint="f" * 64, tokenizer_digest="d" * 64, codebook_size=64, factor=8, height=4, width=4
    )
    parts = []
    for number, path in enumerate(corpus.shards("train")):
        images = corpus.sequential("train", 64, shard=path)
        records = corpus.records("train", images.numbers)
        # The simplest tokenizer there is: mean grey of each 8×8 cell in 64 levels.
        cells = [b["images"].unfold(2, 8, 8).unfold(3, 8, 8).mean((1, 4, 5)).numpy() for b in images]
        levels = np.clip((np.concatenate(cells) + 1) * 32, 0, 63).astype(np.int64)
        rows = TokenRows(
            split="train",
            view="center",
            keys=[r.key for r in records],
            labels=[r.label for r in records],
            source_sha256=[r.source_sha256 for r in records],
            indices=levels,
        )
        name = f"train-{number:06d}.center.parquet"
        parts.append(store.put_part("tokens", f"{number:064x}", {name: token_parquet(meta, rows)}))
    draft = Draft(kind="tokens", fingerprint="t" * 64, stage="encode", stage_version=1, recipe={}, parts=parts)
    tokens = TokenDataset.open(store.get(store.publish(draft)))
    assert tokens.splits == {"train": corpus.num_records("train")}
    assert tokens.labels("train").equal(corpus.labels("train"))
    assert tokens.keys("train") == [corpus.record("train", i).key for i in range(corpus.num_records("train"))]
    assert tokens.code_histogram().sum() == 16 * corpus.num_records("train")


def test_damage_on_disk_is_named(store: Store, artifact: Artifact, pool: DecodePool) -> None:
    corpus = Corpus.open(artifact)
    record = corpus.record("train", 0)
    path = Path(artifact.url(record.shard).removeprefix("file://"))
    good = path.read_bytes()
    damaged = bytearray(good)
    damaged[700:720] = bytes(20)
    path.write_bytes(damaged)
    try:
        with pytest.raises(CorpusError, match="is damaged"):
            list(corpus.sequential("train", 64, shard=record.shard))
        with pytest.raises(CorruptObject):
            artifact.read(record.shard)
    finally:
        path.write_bytes(good)
