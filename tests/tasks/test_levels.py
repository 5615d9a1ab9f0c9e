"""A tokenizer of two levels through every stage: two columns of tokens, a prior that is told the coarser, images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from datasets.corpus import Corpus
from datasets.ingest.tar import read_tar
from datasets.store import Artifact, Store
from datasets.tokens import TokenDataset
from tasks import sample
from tasks.config import PipelineConfig
from tasks.drawing import Drawer
from tasks.expected_columns import check_columns, expected_columns
from tasks.models import load_prior, load_tokenizer
from tasks.sample import read_samples
from tasks.sample_plan import planned, records_of
from tasks.stage import execute
from tasks.token_reports import contents
from tasks.told import Told
from tests import tiny
from vqgan_core.config import ConfigError, SampleConfig
from vqgan_core.quantizers import CodeUsage

CPU = torch.device("cpu")
TWO_LEVELS = {**tiny.TWO_LEVELS, "sample__num_conditions": 3}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, digit_folder: Path) -> PipelineConfig:
    """A pipeline of two levels."""
    return tiny.tiny_config(tmp_path_factory.mktemp("levels"), digit_folder, **TWO_LEVELS)


@pytest.fixture(scope="module")
def made(config: PipelineConfig) -> dict[str, Artifact]:
    """What it makes."""
    check_columns(config)
    return tiny.build(config)


def test_from_images_to_an_evaluation(config: PipelineConfig, made: dict[str, Artifact]) -> None:
    expected = expected_columns(config, lambda _: config.tokenizer)["indices_top"].spec
    tokenizer, tokens = load_tokenizer(made["tokenizer"], CPU), TokenDataset.open(made["tokens"])
    column = tokens.meta.column("indices_top")
    assert (column.height, column.width, column.codebook_size, column.factor) == (2, 2, 8, 8)
    assert (expected.height, expected.width, expected.codebook_size) == (2, 2, 8)
    assert column.tokenizer_digest == made["tokenizer"].manifest.digest
    batch = next(iter(Corpus.open(made["corpus"]).sequential("val", 4, size_px=16)))["images"]
    for name, grid in tokenizer.encode_levels(batch).items():
        assert torch.equal(tokens.tokens("val", column=name)[:4], grid.flatten(1))
    prior = load_prior(made["prior"], CPU)
    assert [spec.name for spec in prior.spec.columns] == ["indices_top"]
    assert [pixels.shape for pixels, _ in read_samples(made["samples"])] == [(16, 16)] * 3
    assert json.loads(made["evaluation"].read("metrics.json"))


def test_columns_are_shown(made: dict[str, Artifact]) -> None:
    tokens = TokenDataset.open(made["tokens"])
    own, top = contents(made["tokens"])["columns"]
    assert (own["name"], own["grid"], top["name"], top["grid"]) == ("indices", [4, 4], "indices_top", [2, 2])
    counts = tokens.code_histogram(column="indices_top")
    usage = CodeUsage(counts)
    assert (top["perplexity"], top["usage"], top["codebook_size"]) == (usage.perplexity, usage.usage, 8)
    assert top["histogram"] == counts.tolist()


def test_the_records_that_are_told_are_completed(config: PipelineConfig, made: dict[str, Artifact]) -> None:
    """A prior with condition columns draws the rest of the record whose columns it is told, several times each."""
    fields = {"completion": {"kind": "upper"}, "num_per_class": 2, "execution": {"device": "cpu", "num_threads": 1}}
    asked = SampleConfig.validated(config.sample.model_dump() | fields, origin="test")
    store, tokens = Store.open(config.store), TokenDataset.open(made["tokens"])
    request = sample.request(asked, made["prior"], made["tokenizer"], tokens=made["tokens"])
    samples = store.get(execute(request, store))
    keys = [key for key in tokens.keys("val")[:3] for _ in range(2)]
    data = {member.name: data for member, data in read_tar(io.BytesIO(samples.read("samples-000000.tar")))}
    data |= {member.name: data for member, data in read_tar(io.BytesIO(samples.read("samples-000001.tar")))}
    abouts = [json.loads(data[name]) for name in sorted(data) if name.endswith(".json")]
    assert [(about["record"], about["told"]["key"]) for about in abouts] == [(key, key) for key in keys]
    tokenizer, model = load_tokenizer(made["tokenizer"], CPU), load_prior(made["prior"], CPU)
    drawer = Drawer(
        asked, model, tokenizer, CPU, Told.open(made["tokens"], model, "val", 3),
        records_of(asked, model.config, model.spec, tokens),
    )  # fmt: skip
    batch = planned(asked, model.spec.num_classes, drawer.records, drawer.told)
    drawn = drawer._sample(batch, drawer._columns(batch)).flatten(1)
    whole = tokens.tokens("val")[:3].repeat_interleave(2, dim=0)
    assert torch.equal(drawn[:, :8], whole[:, :8])
    assert not torch.equal(drawn[:, 8:], whole[:, 8:])
    elsewhere = asked.model_copy(update={"condition_split": "train"})
    with pytest.raises(ValueError, match=r"completion\.split val with condition_split train: .* give the same split"):
        records_of(elsewhere, model.config, model.spec, tokens)


def test_a_prior_that_cannot_make_an_image_is_refused_at_once(tmp_path: Path) -> None:
    for columns, target in ([], "indices"), ([], "indices_top"):
        changed = {"prior__condition_columns": columns, "prior__target": target}
        with pytest.raises(ConfigError, match=r"sampling needs prior\.target indices and prior\.condition_columns"):
            check_columns(tiny.tiny_config(tmp_path, tmp_path, **{**TWO_LEVELS, **changed}))
