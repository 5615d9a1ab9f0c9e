"""Fine-tuning through the stages: what the fingerprint knows of the start, and what is told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.errors import TokenMismatch
from datasets.store import Artifact, ArtifactMissing, Store
from datasets.store.lineage import ancestors
from tasks import train_prior, train_tokenizer
from tasks.models import load_tokenizer
from tasks.pipeline import Pipeline
from tasks.planning import plan_rows
from tasks.stage import execute
from tests.tiny import Published, tiny_config

FINE: dict[str, Any] = {
    "tokenizer__quantizer__restart_dead_codes_after_steps": None,
    "tokenizer__freeze_codebook": True,
    "tokenizer__training__num_steps": 4,
    "prior__training__num_steps": 3,
}


def tuned(published: Published, root: Path, **overrides: Any) -> Pipeline:
    return Pipeline(tiny_config(root, published.source, **FINE | overrides))


def run(pipeline: Pipeline, stage: str) -> Artifact:
    return pipeline.store.get(execute(pipeline.request(stage), pipeline.store))


@pytest.fixture(scope="module")
def root(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the tiny pipeline in it, for all that is added here."""
    place = tmp_path_factory.mktemp("fine") / "store"
    published.copy(place)
    return place


def test_a_tokenizer_goes_on_from_another(published: Published, root: Path, tmp_path: Path) -> None:
    start = published.artifacts["tokenizer"]
    name = start.manifest.fingerprint
    spellings = (name[:8], name, f"{root}/tokenizer/{name}", f"file://{published.root}/tokenizer/{name}/")
    requests = [tuned(published, root, tokenizer__init_from=given).request("train_tokenizer") for given in spellings]
    assert len({request.fingerprint for request in requests}) == 1, "the start is known by its digest, not by its name"

    pipeline = tuned(published, root, tokenizer__init_from=name[:8])
    made = run(pipeline, "train_tokenizer")
    corpus = published.artifacts["corpus"].manifest
    assert made.manifest.inputs == [corpus.as_input(), start.manifest.as_input()]
    assert start.manifest.fingerprint in {found.fingerprint for found in ancestors(pipeline.store, made.manifest)}
    assert "init_from" not in made.manifest.recipe
    before, after = (load_tokenizer(artifact, torch.device("cpu")) for artifact in (start, made))
    assert torch.equal(before.quantizer.codebook, after.quantizer.codebook)
    assert not torch.equal(before.encoder.conv_in.weight, after.encoder.conv_in.weight)
    assert (before.encoder.conv_in.weight - after.encoder.conv_in.weight).abs().max() < 0.05, "four steps away"


def test_a_prior_goes_on_from_another(published: Published, root: Path) -> None:
    start = published.artifacts["prior"]
    overrides = {"prior__init_from": start.manifest.fingerprint, "prior__training__num_steps": 3}
    pipeline = Pipeline(tiny_config(root, published.source, **overrides))
    made = run(pipeline, "train_prior")
    assert made.manifest.inputs == [published.artifacts["tokens"].manifest.as_input(), start.manifest.as_input()]
    assert made.manifest.summary["best_validation_nll"] < 1.02 * start.manifest.summary["best_validation_nll"]


def test_a_prior_does_not_go_on_with_tokens_of_another_tokenizer(published: Published, root: Path) -> None:
    other = tuned(published, root, tokenizer__init_from=published.artifacts["tokenizer"].manifest.fingerprint)
    run(other, "train_tokenizer")
    run(other, "encode")
    config = tiny_config(
        root, published.source, **FINE,
        tokenizer__init_from=published.artifacts["tokenizer"].manifest.fingerprint,
        prior__init_from=published.artifacts["prior"].manifest.fingerprint,
    )  # fmt: skip
    with pytest.raises(TokenMismatch, match="reads tokens of the tokenizer with digest"):
        Pipeline(config).request("train_prior")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"tokenizer__codebook_size": 32}, ValueError, "codebook_size 16, not 32"),
        ({"tokenizer__autoencoder__base_channels": 16}, ValueError, "base_channels 8, not 16"),
        ({"tokenizer__init_from": "ffffffffffff"}, ArtifactMissing, "begins with 'ffffffffffff'"),
        ({"tokenizer__init_from": "prior"}, ArtifactMissing, "a tokenizer artifact is needed"),
        ({"prior__init_from": "prior", "prior__num_layers": 3}, ValueError, "num_layers 2, not 3"),
    ],
)
def test_a_plan_tells_what_does_not_fit(
    published: Published, overrides: dict[str, Any], error: type[Exception], message: str
) -> None:
    names = {kind: artifact.manifest.fingerprint for kind, artifact in published.artifacts.items()}
    named = {key: names.get(str(value), value) for key, value in overrides.items()}
    config = tiny_config(published.root, published.source, **{"tokenizer__init_from": names["tokenizer"], **named})
    with pytest.raises(error, match=message):
        plan_rows(config)


def test_a_plan_of_a_fine_tuning(published: Published) -> None:
    config = tiny_config(
        published.root, published.source, **FINE,
        tokenizer__init_from=published.artifacts["tokenizer"].manifest.fingerprint,
    )  # fmt: skip
    rows = {row["stage"]: row for row in plan_rows(config)}
    assert rows["train_tokenizer"]["state"] == "would run"
    assert rows["train_tokenizer"]["fingerprint"] == Pipeline(config).request("train_tokenizer").fingerprint
    assert Store.open(config.store).lookup("tokenizer", rows["train_tokenizer"]["fingerprint"]) is None


def test_an_experiment_does_not_drop_the_start_in_silence(published: Published) -> None:
    config = published.config.prior.model_copy(update={"init_from": "0123abcd"})
    with pytest.raises(ValueError, match="init_from 0123abcd: only a pipeline begins"):
        train_prior.request(config, published.artifacts["tokens"])
    tokenizer = published.config.tokenizer.model_copy(update={"init_from": "0123abcd"})
    with pytest.raises(ValueError, match="in an experiment leave it null"):
        train_tokenizer.request(tokenizer, published.artifacts["corpus"])
