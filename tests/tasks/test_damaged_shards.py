"""Contract: a damaged shard is named, and ends encoding, or its records are left out and counted, as is configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.corpus import Corpus
from datasets.errors import CorpusError
from datasets.store import Artifact, Store
from datasets.tokens import TokenDataset
from tasks import encode
from tasks.stage import execute
from tests.tiny import Published, Recorder
from vqgan_core.config import EncodeConfig


@pytest.fixture
def fresh(published: Published, tmp_path: Path) -> Published:
    """A store with a corpus and a tokenizer, and without tokens."""
    return published.without("tokens", tmp_path / "store")


def damage(fresh: Published, shard: str) -> None:
    """Change every record of a shard, and not its size."""
    path = Path(fresh.artifacts["corpus"].url(shard).removeprefix("file://"))
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def encoded(fresh: Published, recorder: Recorder | None = None, **fields: str) -> Artifact:
    config = EncodeConfig.model_validate({**fresh.config.encode.model_dump(), **fields})
    store = Store.open(fresh.config.store)
    request = encode.request(config, fresh.artifacts["corpus"], fresh.artifacts["tokenizer"])
    return store.get(execute(request, store, recorder))


def test_by_default_it_ends_the_stage_and_is_named(fresh: Published) -> None:
    shard = Corpus.open(fresh.artifacts["corpus"]).shards("train")[1]
    assert "damaged_shards" not in fresh.config.encode.recipe()
    damage(fresh, shard)
    with pytest.raises(CorpusError, match=shard.rpartition("/")[2]):
        encoded(fresh)


def test_its_records_can_be_left_out_and_are_counted(fresh: Published, published: Published) -> None:
    corpus = Corpus.open(fresh.artifacts["corpus"])
    shard = corpus.shards("train")[1]
    lost = {record.key for record in corpus.shard_records("train", shard)}
    damage(fresh, shard)
    recorder = Recorder()
    artifact = encoded(fresh, recorder, damaged_shards="skip")
    assert artifact.manifest.summary["damaged_shards"] == {shard: len(lost)}
    assert any(shard in message and "left out" in message for message in recorder.messages)
    tokens, whole = TokenDataset.open(artifact), TokenDataset.open(published.artifacts["tokens"])
    assert set(tokens.keys("train")) == set(whole.keys("train")) - lost
    assert tokens.keys("val") == whole.keys("val")
    assert artifact.manifest.summary["records"] == tokens.splits
    assert artifact.manifest.fingerprint != published.artifacts["tokens"].manifest.fingerprint
    assert tokens.code_histogram().sum() == 2 * 16 * (240 - len(lost))


def test_nothing_is_left_out_of_a_sound_corpus(fresh: Published, published: Published) -> None:
    artifact = encoded(fresh, damaged_shards="skip")
    assert artifact.manifest.digest == published.artifacts["tokens"].manifest.digest
    assert artifact.manifest.summary["damaged_shards"] == {}


def test_a_split_of_which_nothing_is_left_is_an_error(fresh: Published) -> None:
    for shard in Corpus.open(fresh.artifacts["corpus"]).shards("train"):
        damage(fresh, shard)
    with pytest.raises(CorpusError, match="every shard of split 'train' is damaged"):
        encoded(fresh, damaged_shards="skip")
