"""Contract: a tokenizer of any plane is trained, encoded with and evaluated like one of images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.corpus import Corpus
from datasets.tokens import TokenDataset
from tasks.config import PipelineConfig
from tasks.models import load_tokenizer
from tasks.plane import pictures, voc_palette
from tests.tiny import build, tiny_config
from vqgan_core.config import ConfigError, StoredPlane, TokenizerConfig
from vqgan_core.tokenizer import one_hot

SHORT = {
    "tokenizer__training__num_steps": 6, "tokenizer__loss__adversarial": "none", "prior__training__num_steps": 4,
    "encode__views": ["center"], "evaluate__num_pictures": 3, "sample__num_per_class": 1,
}  # fmt: skip
LABELS = {
    "tokenizer__plane": {"kind": "stored", "name": "parts"}, "tokenizer__loss__pixel": "cross_entropy",
    "tokenizer__autoencoder__image_channels": 3, "tokenizer__training__num_steps": 40,
}  # fmt: skip
PLANES: dict[str, dict[str, Any]] = {
    "edges": {"tokenizer__plane": "edges"},
    "depth": {"tokenizer__plane": {"kind": "stored", "name": "depth"}},
    "low_resolution": {
        "tokenizer__plane": {"kind": "low_resolution", "factor": 2}, "tokenizer__autoencoder__resolution_px": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def beside(digit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pairs of the digits: their strokes as label maps of three classes, their brightness as 16-bit depth."""
    root = tmp_path_factory.mktemp("beside")
    for path in digit_folder.glob("*/*.png"):
        pixels = np.asarray(Image.open(path))
        for name, levels in (("parts", pixels // 86), ("depth", pixels.astype(np.uint16) * 257)):
            target = root / name / path.relative_to(digit_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(target)
    return {
        "parts": {"kind": "files", "url": str(root / "parts"), "holds": {"kind": "labels", "num_classes": 3}},
        "depth": {"kind": "files", "url": str(root / "depth"), "holds": {"kind": "values", "bits": 16}},
    }


def config(store: Path, digits: Path, pairs: dict[str, Any], **overrides: Any) -> PipelineConfig:
    return tiny_config(store, digits, shard__pairs=pairs, **SHORT | overrides)


@pytest.mark.slow
def test_label_maps_go_all_the_way(digit_folder: Path, beside: dict[str, Any], tmp_path: Path) -> None:
    made = build(config(tmp_path / "store", digit_folder, beside, **LABELS))
    stored = json.loads(made["tokenizer"].read("config.json"))
    assert (stored["plane"], stored["label_maps"]) == ({"kind": "stored", "name": "parts"}, True)
    metrics = {row["name"]: row["value"] for row in json.loads(made["evaluation"].read("metrics.json"))}
    assert {"pixel accuracy", "mean IoU", "cross-entropy", "prior NLL"} <= set(metrics)
    assert not {"PSNR", "L1", "FD-domain"} & set(metrics)
    assert metrics["pixel accuracy"] > 0.5
    validation = made["tokenizer"].manifest.summary["validation"]
    assert validation["pixel_accuracy"] > 0.5
    assert "pixels right" in made["tokenizer"].manifest.summary["headline"]
    corpus, tokenizer = Corpus.open(made["corpus"]), load_tokenizer(made["tokenizer"], torch.device("cpu"))
    maps = next(iter(corpus.sequential("val", 8, planes={"maps": StoredPlane(name="parts")})))["maps"]
    tokens = next(TokenDataset.open(made["tokens"]).sequential("val", 8).__iter__())["tokens"]
    assert torch.equal(tokenizer.encode(one_hot(maps, 3)).flatten(1), tokens)
    palette = {tuple(colour) for colour in voc_palette(3).tolist()} | {(255, 255, 255)}
    with Image.open(io.BytesIO(made["samples"].read("samples-000000.tar")[512:])) as sample:
        assert {colour for _, colour in sample.convert("RGB").getcolors() or ()} <= palette


@pytest.mark.parametrize("plane", PLANES)
def test_other_planes_are_trained_on_and_encoded(
    digit_folder: Path, beside: dict[str, Any], tmp_path: Path, plane: str
) -> None:
    made = build(config(tmp_path / "store", digit_folder, beside, **PLANES[plane]), last="encode")
    model = TokenizerConfig.validated(json.loads(made["tokenizer"].read("config.json")), origin="x")
    corpus, tokenizer = Corpus.open(made["corpus"]), load_tokenizer(made["tokenizer"], torch.device("cpu"))
    images = next(iter(corpus.sequential("val", 8, size_px=model.window_px, planes={"images": model.plane})))["images"]
    dataset = TokenDataset.open(made["tokens"])
    tokens = next(iter(dataset.sequential("val", 8)))["tokens"]
    assert torch.equal(tokenizer.encode(images).flatten(1), tokens)
    assert dataset.meta.preprocessing["plane"]["kind"] == model.plane.kind  # type: ignore[index,call-overload]
    with Image.open(io.BytesIO(made["tokenizer"].read("reconstructions.png"))) as sheet:
        assert sheet.height > 128


def test_of_images_nothing_new_is_stored(digit_folder: Path, tmp_path: Path) -> None:
    plain = tiny_config(tmp_path, digit_folder)
    assert not {"plane", "label_maps"} & (set(plain.tokenizer.recipe()) | set(plain.tokenizer.model().recipe()))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"tokenizer__plane": {"kind": "stored", "name": "x"}}, "plane x: the corpus keeps parts, depth beside its im"),
        (
            {"tokenizer__plane": {"kind": "stored", "name": "parts"}},
            "plane parts holds label maps: set .* cross_entropy",
        ),
        ({**LABELS, "tokenizer__plane": "image"}, "plane image holds no label maps: set .* to l1 or l2"),
        ({**LABELS, "tokenizer__autoencoder__image_channels": 4}, "image_channels is 4 but plane parts has 3"),
        ({"tokenizer__plane": "edges", "tokenizer__autoencoder__image_channels": 3}, "is 3 but plane edges has 1"),
        ({"tokenizer__plane": {"kind": "low_resolution", "factor": 2}}, "needs images of 32 px, which is larger than"),
        ({"tokenizer__label_maps": True}, "label_maps with loss.pixel l1"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(
    digit_folder: Path, beside: dict[str, Any], tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, digit_folder, beside, **overrides)


def test_the_palette_is_pascal_vocs_and_odd_channels_are_shown() -> None:
    assert voc_palette(16)[[0, 1, 2, 15]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128]]
    assert len({tuple(colour) for colour in voc_palette(256).tolist()}) == 256
    four = TokenizerConfig.validated({"autoencoder": {"image_channels": 4}}, origin="x")
    assert [pictures(torch.zeros(1, c, 4, 4), four)[0].shape for c in (1, 2, 3, 4)] == [(4, 4, 1)] * 2 + [(4, 4, 3)] * 2
