"""`tessera import dalle`: a dVAE becomes a tokenizer like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from datasets.store import Store
from datasets.tokens import TokenDataset
from tasks.models import load_tokenizer
from tasks.pipeline import Pipeline
from tasks.stage import execute
from tests.flows.command_line import CommandLine
from tests.tiny import tiny_config
from tests.vqgan_core.legacy.dalle_layout import SMALL, state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dVAE, with random weights, as the conversion of the published files leaves it."""
    path = tmp_path_factory.mktemp("dalle") / "dalle.ckpt"
    torch.save({"state_dict": state(**SMALL)}, path)
    return path


def test_its_tokens_train_a_prior(cli: CommandLine, weights: Path, digit_folder: Path, tmp_path: Path) -> None:
    said = cli("import", "dalle", weights, "--resolution", 16, "--store", tmp_path / "store", "--json")
    (row,) = said.json
    assert set(row["keys"]["used"]) == set(state(**SMALL))
    assert not row["keys"]["missing"] + row["keys"]["left_over"] + row["keys"]["ignored"]
    assert (
        cli("import", "dalle", weights, "--resolution", 16, "--store", tmp_path / "store", "--json").json == said.json
    )
    config = tiny_config(
        tmp_path / "store", digit_folder, shard__channels=3, tokenizer__autoencoder__image_channels=3,
        encode__views=["center"], prior__training__num_steps=4, prior__training__validate_every_steps=4,
        sample__num_per_class=1,
    )  # fmt: skip
    stages = Pipeline(config, {"tokenizer": row["artifact"]["fingerprint"]})
    for stage in ("shard", "encode", "train_prior", "sample"):
        execute(stages.request(stage), stages.store)
    store = Store.open(config.store)
    (tokens,) = store.artifacts("tokens")
    found = store.lookup("tokens", tokens.fingerprint)
    assert found is not None
    meta = TokenDataset.open(found).meta
    assert (meta.codebook_size, meta.factor, meta.height) == (512, 8, 2)
    (samples,) = store.artifacts("samples")
    assert samples.summary["num_images"] == 10


def test_what_does_not_fit_is_one_line(cli: CommandLine, weights: Path, tmp_path: Path) -> None:
    arguments = ("import", "dalle", weights, "--store", tmp_path / "store")
    for change, message in (
        ("codebook_size=1024", "K1024 × 8 with this config: 3 keys"),
        ("autoencoder.num_levels=3", "missing or of another shape"),
        ("autoencoder.num_res_blocks=2", "missing or of another shape"),
        ("quantizer.kind=vector", "only quantizer gumbel takes"),
    ):
        said = cli(*arguments, change, "--json")
        assert said.status in (1, 2)
        assert said.err.count("\n") == 1
        assert message in said.err
    assert "--resolution" not in cli(*arguments, "--config", weights).complaint
    assert "tessera import dalle" in cli("import", "taming", weights, "--store", tmp_path / "store").complaint
    assert not list((tmp_path / "store").glob("*/*/manifest.json"))


def test_export_says_that_nobody_else_has_it(cli: CommandLine, weights: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store")
    (row,) = cli("import", "dalle", weights, *store, "--json").json
    name = row["artifact"]["fingerprint"]
    for project in ("taming", "diffusers"):
        complaint = cli("export", project, name, tmp_path / "out", *store).complaint
        assert "it cannot be exported" in complaint
    artifact = Store.open(str(tmp_path / "store")).lookup("tokenizer", name)
    assert artifact is not None
    assert json.loads(artifact.read("config.json"))["autoencoder"]["kind"] == "dvae"
    assert load_tokenizer(artifact, torch.device("cpu")).config.autoencoder.resolution_px == 256
