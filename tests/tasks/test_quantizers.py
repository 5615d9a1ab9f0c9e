"""Quantizers whose grid or codebook is unlike the default's, through every stage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.corpus import Corpus
from datasets.tokens import TokenDataset
from tasks.models import load_prior, load_tokenizer
from tests import tiny
from vqgan_core.config import TokenizerConfig

CPU = torch.device("cpu")
SHORT = {"tokenizer__training__num_steps": 12, "prior__training__num_steps": 10, "sample__num_per_class": 1}
QUANTIZERS: dict[str, dict[str, Any]] = {
    "residual": {"tokenizer__quantizer__kind": "residual", "tokenizer__quantizer__depth": 3},
    "lfq": {"tokenizer__quantizer__kind": "lfq"},
}


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_from_images_to_an_evaluation(kind: str, tmp_path: Path, digit_folder: Path) -> None:
    config = tiny.tiny_config(tmp_path / "store", digit_folder, **QUANTIZERS[kind], **SHORT)
    made = tiny.build(config)
    tokenizer, tokens = load_tokenizer(made["tokenizer"], CPU), TokenDataset.open(made["tokens"])
    width = 4 * (3 if kind == "residual" else 1)
    spec = load_prior(made["prior"], CPU).spec
    assert (spec.height, spec.width) == config.tokenizer.grid(16, 16) == (4, width)
    batch = next(iter(Corpus.open(made["corpus"]).sequential("val", 4, size_px=16)))["images"]
    assert torch.equal(tokens.tokens("val")[:4], tokenizer.encode(batch).flatten(1))
    assert tokenizer.decode(tokens.tokens("val")[:4].view(4, 4, width)).shape == batch.shape
    metrics = {metric["name"]: metric["value"] for metric in json.loads(made["evaluation"].read("metrics.json"))}
    nats = metrics["prior NLL"] * spec.num_tokens
    assert metrics["prior bits/dim"] == pytest.approx(nats / (16 * 16 * math.log(2)))


def test_grids() -> None:
    plain = TokenizerConfig()
    assert plain.grid(256, 512) == (16, 32)
    deep = TokenizerConfig(quantizer={"kind": "residual", "depth": 4})
    assert deep.grid(256, 512) == (16, 128)
