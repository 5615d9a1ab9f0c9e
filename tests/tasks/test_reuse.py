"""Artifacts as inputs of other work: tokens without images, samples as a corpus, and what must not be mixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.config import ShardConfig, WebDatasetSource
from datasets.corpus import Corpus
from datasets.errors import TokenMismatch
from datasets.store import Artifact, Store
from tasks import encode, evaluate, sample, shard, train_prior, train_tokenizer
from tasks.pipeline import NotPublished, Pipeline
from tasks.sample import read_samples
from tasks.stage import Request, execute
from tasks.subjects import Subjects
from tests.tiny import Published, build, tiny_config


def _publish(published: Published, request: Request) -> Artifact:
    store = Store.open(published.config.store)
    return store.get(execute(request, store))


def test_priors_on_the_same_tokens_need_no_image(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    shutil.rmtree(copy.root / "parts" / "corpus")
    shutil.rmtree(copy.root / "corpus")
    made = {published.artifacts["prior"].manifest.digest}
    for name, value in (("prior__width", 16), ("prior__condition", "none")):
        config = tiny_config(copy.root, tmp_path / "no images at all", **{name: value})
        pipeline = Pipeline(config, {"tokens": copy.artifacts["tokens"].manifest.fingerprint})
        made.add(_publish(copy, pipeline.request("train_prior")).manifest.digest)
    assert len(made) == 3


def test_a_sample_set_is_a_source(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    samples = copy.artifacts["samples"]
    urls = tuple(samples.url(entry.path) for entry in samples.manifest.files if entry.path.endswith(".tar"))
    config = ShardConfig(
        source=WebDatasetSource(urls=urls, label_field="label"), size_px=16, channels=1, validation_fraction=0.2,
        execution=copy.config.shard.execution,
    )  # fmt: skip
    corpus = Corpus.open(_publish(copy, shard.request(config)))
    assert corpus.class_names == tuple("0123456789")
    drawn = {(pixels.tobytes(), label) for pixels, label in read_samples(samples)}
    kept = {
        (np.squeeze(corpus.image(split, number)).tobytes(), corpus.record(split, number).label)
        for split, count in corpus.splits.items()
        for number in range(count)
    }
    assert kept == drawn


def test_a_grown_source_keeps_what_was_made_of_the_old_one(published: Published, tmp_path: Path) -> None:
    """Units are named by what they were made from, so equal units of another corpus are not built again."""
    source = tmp_path / "source"
    shutil.copytree(published.source, source)
    copy = published.copy(tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in (copy.root / "parts").rglob("*") if path.is_file()}
    grown = build(tiny_config(copy.root, source), "encode")
    assert {kind: artifact.ref for kind, artifact in grown.items()} == {
        kind: copy.artifacts[kind].ref for kind in grown
    }  # the same files elsewhere are the same source
    Image.new("L", (9, 9), 77).save(source / "3" / "new.png")
    grown = build(tiny_config(copy.root, source), "shard")
    assert grown["corpus"].manifest.fingerprint != copy.artifacts["corpus"].manifest.fingerprint
    assert sum(Corpus.open(grown["corpus"]).splits.values()) == 241
    assert all(path.stat().st_mtime_ns == modified for path, modified in before.items())


@pytest.fixture(scope="module")
def foreign(published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Artifact, Artifact]:
    """The pipeline, another tokenizer of the same corpus, and its tokens."""
    copy = published.copy(tmp_path_factory.mktemp("foreign") / "store")
    config = tiny_config(copy.root, copy.source, tokenizer__training__num_steps=1)
    tokenizer = _publish(copy, train_tokenizer.request(config.tokenizer, copy.artifacts["corpus"]))
    tokens = _publish(copy, encode.request(config.encode, copy.artifacts["corpus"], tokenizer))
    return copy, tokenizer, tokens


def test_a_prior_is_not_sampled_with_a_foreign_tokenizer(foreign: tuple[Published, Artifact, Artifact]) -> None:
    copy, tokenizer, _ = foreign
    with pytest.raises(TokenMismatch, match="give it the tokenizer that made its tokens") as caught:
        _publish(copy, sample.request(copy.config.sample, copy.artifacts["prior"], tokenizer))
    assert "\n" not in str(caught.value)
    assert tokenizer.manifest.digest[:12] in str(caught.value)
    assert Store.open(copy.config.store).verify() == []


@pytest.mark.parametrize("stranger", ["tokens", "tokenizer"])
def test_an_evaluation_refuses_what_does_not_belong_together(
    foreign: tuple[Published, Artifact, Artifact], stranger: str
) -> None:
    copy, tokenizer, tokens = foreign
    subjects = {kind: copy.artifacts[kind] for kind in ("corpus", "tokenizer", "tokens", "prior", "samples")}
    subjects[stranger] = {"tokens": tokens, "tokenizer": tokenizer}[stranger]
    with pytest.raises(TokenMismatch) as caught:
        _publish(copy, evaluate.request(copy.config.evaluate, Subjects(**subjects), "mixed"))
    assert "\n" not in str(caught.value)


def test_an_evaluation_refuses_samples_of_another_prior(foreign: tuple[Published, Artifact, Artifact]) -> None:
    copy = foreign[0]
    config = tiny_config(copy.root, copy.source, prior__width=16)
    prior = _publish(copy, train_prior.request(config.prior, copy.artifacts["tokens"]))
    subjects = {kind: copy.artifacts[kind] for kind in ("corpus", "tokenizer", "tokens", "samples")}
    with pytest.raises(ValueError, match="were not drawn from the prior"):
        _publish(copy, evaluate.request(copy.config.evaluate, Subjects(**subjects, prior=prior), "mixed"))


def test_tokens_of_another_tokenizer_are_other_parts(foreign: tuple[Published, Artifact, Artifact]) -> None:
    copy, _, tokens = foreign
    theirs = {entry.path for entry in tokens.manifest.files}
    ours = {entry.path for entry in copy.artifacts["tokens"].manifest.files}
    assert {path for path in theirs & ours if path.startswith("..")} == set()


@pytest.mark.parametrize("stage", ["train_tokenizer", "encode", "train_prior", "sample", "evaluate"])
def test_a_stage_before_its_inputs_says_what_to_run(published: Published, tmp_path: Path, stage: str) -> None:
    pipeline = Pipeline(tiny_config(tmp_path / "store", published.source))
    with pytest.raises(NotPublished, match=r"is not in .* yet: run `tessera shard` with the same config") as caught:
        pipeline.request(stage)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_the_same_seed_gives_the_same_image_however_many_are_drawn(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    config = copy.config.sample.model_copy(update={"num_per_class": 1, "images_per_shard": 100})
    few = _publish(copy, sample.request(config, copy.artifacts["prior"], copy.artifacts["tokenizer"]))
    assert few.manifest.fingerprint != copy.artifacts["samples"].manifest.fingerprint
    plan = sample.planned(config, 10)
    assert [item.seed for item in plan] == [item.seed for item in sample.planned(copy.config.sample, 10)][:10]
    first = next(read_samples(few))[0]
    assert np.array_equal(first, next(read_samples(copy.artifacts["samples"]))[0])
    assert torch.get_num_threads() == 1
