"""What each stage publishes: files, manifest, lineage. The artifacts are those of one real run."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from importlib.metadata import version

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datasets.corpus import Corpus
from datasets.store import Store
from datasets.store.lineage import ancestors, find_artifact
from datasets.tokens import TokenDataset
from tasks.config import PipelineConfig
from tasks.models import load_prior, load_tokenizer
from tasks.pipeline import STEPS
from tasks.sample import read_samples
from tasks.sample_plan import planned
from tests.tiny import KINDS, NUM_DIGITS, Published
from vqgan_core.config import canonical_json

CPU = torch.device("cpu")
READS = {step.stage.kind: step.reads for step in STEPS.values()}
SECTIONS = dict(zip(KINDS, ("shard", "tokenizer", "encode", "prior", "sample", "evaluate"), strict=True))


def test_the_corpus_holds_every_image_once(published: Published) -> None:
    artifact = published.artifacts["corpus"]
    corpus = Corpus.open(artifact)
    keys = [record.key for split, count in corpus.splits.items() for record in corpus.records(split, range(count))]
    assert len(set(keys)) == len(keys) == NUM_DIGITS
    assert artifact.manifest.summary["splits"] == corpus.splits
    assert corpus.class_names == tuple("0123456789")
    names = Counter(entry.path.rsplit("/", 1)[-1].rsplit("-", 1)[0] for entry in artifact.manifest.files)
    assert names["train"] == names["val"] == names["records"] == names["quarantine"] == 6
    assert {"index.parquet", "quarantine.parquet", "classes.json"} <= set(names)


def test_the_tokenizer_can_be_used_and_has_its_curves(published: Published) -> None:
    artifact = published.artifacts["tokenizer"]
    tokenizer = load_tokenizer(artifact, CPU)
    images = next(iter(Corpus.open(published.artifacts["corpus"]).sequential("val", 4, size_px=16)))["images"]
    assert tokenizer.encode(images).shape == (4, 4, 4)
    rows = [json.loads(line) for line in artifact.read("curves.jsonl").splitlines()]
    assert [row["step"] for row in rows] == [12, 24, 30]
    assert all(np.isfinite(row["train/loss"]) and np.isfinite(row["validation/psnr"]) for row in rows)
    picture = Image.open(io.BytesIO(artifact.read("reconstructions.png")))
    assert min(picture.size) > 16
    assert artifact.manifest.summary["validation"]["psnr"] == rows[-1]["validation/psnr"]


def test_tokens_are_what_the_tokenizer_says(published: Published) -> None:
    artifact, tokenizer = published.artifacts["tokens"], load_tokenizer(published.artifacts["tokenizer"], CPU)
    tokens, corpus = TokenDataset.open(artifact), Corpus.open(published.artifacts["corpus"])
    assert tokens.splits == corpus.splits
    for view, mirrored in (("center", False), ("center_flip", True)):
        batches = corpus.sequential("val", 64, size_px=16, mirrored=mirrored)
        indices = torch.cat([tokenizer.encode(batch["images"]).flatten(1) for batch in batches])
        assert torch.equal(tokens.tokens("val", view), indices)
    files = [entry.path for entry in artifact.manifest.files if entry.path.endswith(".parquet")]
    assert len(files) == 6 * 2 * 2  # shards, splits, views
    counts = json.loads(artifact.read("codes.json"))
    assert counts["val"] == tokens.code_histogram("val").tolist()


def test_a_token_file_says_what_it_was_made_from(published: Published) -> None:
    artifact = published.artifacts["tokens"]
    table = pq.read_table(io.BytesIO(artifact.read(artifact.manifest.files[0].path)))
    assert {"key", "label", "split", "view", "height", "width", "indices"} <= set(table.column_names)
    metadata = b" ".join((table.schema.metadata or {}).values()).decode()
    tokenizer = published.artifacts["tokenizer"].manifest
    assert tokenizer.fingerprint in metadata
    assert tokenizer.digest in metadata


def test_the_prior_knows_its_tokenizer(published: Published) -> None:
    artifact = published.artifacts["prior"]
    prior = load_prior(artifact, CPU)
    assert prior.spec.tokenizer == published.artifacts["tokenizer"].manifest.digest
    assert (prior.spec.codebook_size, prior.spec.num_tokens, prior.spec.num_classes) == (16, 16, 10)
    rows = [json.loads(line) for line in artifact.read("curves.jsonl").splitlines()]
    assert [row["step"] for row in rows] == [15, 30, 40]
    assert artifact.manifest.summary["best_validation_nll"] == min(row["validation/nll"] for row in rows)


def test_samples_are_shards_of_images_with_their_settings(published: Published) -> None:
    artifact, config = published.artifacts["samples"], published.config.sample
    abouts = []
    for entry in artifact.manifest.files:
        if entry.path.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(artifact.read(entry.path))) as tar:
                names = tar.getnames()
                stems = [name.partition(".")[0] for name in names[::2]]
                assert names == [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "json")]
                abouts += [json.load(tar.extractfile(name) or io.BytesIO()) for name in names[1::2]]
    plan = planned(config, 10)
    assert [(about["class"], about["seed"]) for about in abouts] == [(item.label, item.seed) for item in plan]
    assert len({about["seed"] for about in abouts}) == 20
    assert {about["settings"]["guidance"] for about in abouts} == {1.5}
    pairs = list(read_samples(artifact))
    assert [label for _, label in pairs] == [item.label for item in plan]
    assert {pixels.shape for pixels, _ in pairs} == {(16, 16)}


def test_the_evaluation_has_numbers_and_one_page(published: Published) -> None:
    artifact = published.artifacts["evaluation"]
    metrics = {metric["name"]: metric for metric in json.loads(artifact.read("metrics.json"))}
    assert {"PSNR", "SSIM", "codebook usage", "prior NLL", "unigram NLL", "FD-domain"} <= set(metrics)
    assert all(metric["n"] > 0 and metric["reference"] for metric in metrics.values())
    page = artifact.read("report.html").decode()
    assert page.lstrip().startswith("<!doctype html>")
    assert [entry.path for entry in artifact.manifest.views] == ["report.html", "summary.md"]
    lineage = [published.artifacts[kind].manifest for kind in KINDS[:-1]]
    assert all(manifest.fingerprint[:12] in page for manifest in lineage)


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_says_how_its_artifact_was_made(published: Published, kind: str) -> None:
    manifest = published.artifacts[kind].manifest
    recipe = getattr(published.config, SECTIONS[kind]).recipe()
    if kind == "corpus":  # known by what it held, not by where it was
        recipe.pop("source")
    assert canonical_json(manifest.recipe) == canonical_json(recipe)
    assert "execution" not in json.dumps(manifest.recipe)
    expected = [published.artifacts[name].ref.as_input() for name in READS[kind]]
    assert [ref for ref in manifest.inputs if ref.kind != "source"] == expected
    assert manifest.cost.seconds > 0
    assert manifest.cost.bytes_written > 0
    assert manifest.summary["headline"]
    assert manifest.environment["packages"]["torch"] == version("torch")


def test_lineage_reaches_the_images(published: Published) -> None:
    store = Store.open(published.config.store)
    evaluation = find_artifact(store, published.artifacts["evaluation"].manifest.fingerprint[:12])
    assert [manifest.kind for manifest in ancestors(store, evaluation.manifest)] == list(KINDS)
    assert published.artifacts["corpus"].manifest.inputs[0].kind == "source"


def test_nothing_is_left_of_the_work(published: Published) -> None:
    store = Store.open(published.config.store)
    assert store.storage.find("work") == {}
    claims = [json.loads(store.storage.read(path)) for path in store.storage.find("claims")]
    assert len(claims) == len(KINDS)
    assert all(claim["released"] for claim in claims)
    assert store.verify() == []
    assert {item.reason for item in store.gc(older_than_seconds=0)} == {"claim of a published artifact"}


def test_a_config_survives_its_yaml(published: Published) -> None:
    assert PipelineConfig.validated(published.config.model_dump(mode="json"), origin="dump") == published.config
