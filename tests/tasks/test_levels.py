"""A tokenizer of two levels through every stage: two columns of tokens, a prior that is told the coarser, images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.corpus import Corpus
from datasets.tokens import TokenDataset
from tasks.expected_columns import check_columns, expected_columns
from tasks.models import load_prior, load_tokenizer
from tasks.sample import read_samples
from tests import tiny
from vqgan_core.config import ConfigError

CPU = torch.device("cpu")
TWO_LEVELS: dict[str, Any] = {
    "tokenizer__quantizer__kind": "ema",
    "tokenizer__top__codebook_size": 8,
    "tokenizer__top__codebook_dim": 4,
    "tokenizer__training__num_steps": 12,
    "prior__condition_columns": ["indices_top"],
    "prior__training__num_steps": 10,
    "sample__num_per_class": 1,
    "sample__num_conditions": 3,
}


def test_from_images_to_an_evaluation(tmp_path: Path, digit_folder: Path) -> None:
    config = tiny.tiny_config(tmp_path / "store", digit_folder, **TWO_LEVELS)
    check_columns(config)
    expected = expected_columns(config, lambda _: config.tokenizer)["indices_top"].spec
    made = tiny.build(config)
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


def test_a_prior_that_cannot_make_an_image_is_refused_at_once(tmp_path: Path) -> None:
    for columns, target in ([], "indices"), ([], "indices_top"):
        changed = {"prior__condition_columns": columns, "prior__target": target}
        with pytest.raises(ConfigError, match=r"sampling needs prior\.target indices and prior\.condition_columns"):
            check_columns(tiny.tiny_config(tmp_path, tmp_path, **{**TWO_LEVELS, **changed}))
