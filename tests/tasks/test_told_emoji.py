"""Emoji from source to prior: segmentation maps from their alpha channel, depth maps and bounding boxes as conditions.

Depth is that of the silhouette blown up like a balloon: how far a pixel is from the nearest transparent one.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.tokens import TokenDataset
from tasks.config import PipelineConfig
from tasks.pipeline import Pipeline
from tasks.told import pictures_of
from tests.tasks.told import CPU, gains, prior, run, tokenizer, unpacked
from vqgan_core.config import LayoutConfig
from vqgan_core.prior.layouts import layout_objects

SIZE_PX = 32
BOX_CODES = 65
"""8 × 8 points and one more: so few that each occurs often among so few images."""


def annotated(source: Path) -> Path:
    """COCO annotations of what is opaque: tall, wide or neither."""
    names = ["tall", "wide", "round"]
    images, annotations = [], []
    for number, path in enumerate(sorted(source.glob("*.png"))):
        with Image.open(path) as image:
            left, top, right, bottom = image.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).getbbox()
            images.append({"id": number, "file_name": path.name, "width": image.width, "height": image.height})
        width, height = right - left, bottom - top
        category = 0 if height > 1.2 * width else 1 if width > 1.2 * height else 2
        annotations.append({"image_id": number, "category_id": 10 + category, "bbox": [left, top, width, height]})
    categories = [{"id": 10 + number, "name": name} for number, name in enumerate(names)]
    path = source.parent / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def with_depth(source: Path) -> Path:
    """A 16-bit depth map for each image."""
    folder = source.parent / "depth"
    folder.mkdir()
    for path in source.glob("*.png"):
        with Image.open(path) as image:
            opaque = np.asarray(image.getchannel("A")) >= 128
        distances = cv2.distanceTransform(opaque.astype(np.uint8), cv2.DIST_L2, 3)
        levels = (distances / max(opaque.shape) * 2 * 65535).clip(0, 65535)
        Image.fromarray(levels.astype(np.uint16)).save(folder / path.name)
    return folder


@pytest.fixture(scope="module")
def emoji(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    """A config whose tokens are made, of every fifteenth emoji."""
    root = tmp_path_factory.mktemp("emoji")
    source = unpacked(shared_data / "emoji128.tar", root / "source", every=15) / "emoji128"
    maps = tokenizer(
        SIZE_PX, 3, plane={"kind": "stored", "name": "shape"}, autoencoder={"image_channels": 2},
        loss={"pixel": "cross_entropy", "perceptual": "none", "adversarial": "none"},
    )  # fmt: skip
    config = PipelineConfig.validated(
        {
            "store": {"url": str(root / "store")},
            "shard": {
                "source": {"kind": "folder", "url": str(source)}, "size_px": SIZE_PX, "channels": 1,
                "validation_fraction": 0.25, "images_per_shard": 100, "execution": {"num_processes": 1},
                "pairs": {
                    "shape": {"kind": "alpha"},
                    "depth": {
                        "kind": "files", "url": str(with_depth(source)), "holds": {"kind": "values", "bits": 16},
                    },
                },
            },
            "tokenizer": tokenizer(SIZE_PX, 3),
            "condition_tokenizers": {
                "shapes": maps, "depths": tokenizer(SIZE_PX, 3, plane={"kind": "stored", "name": "depth"}),
            },
            "encode": {
                "execution": CPU,
                "conditions": {
                    "shape": {"kind": "plane", "tokenizer": "shapes"},
                    "depth": {"kind": "plane", "tokenizer": "depths"},
                    "box": {
                        "kind": "boxes", "annotations": str(annotated(source)), "max_objects": 1, "codebook_size": BOX_CODES,
                    },
                },
            },
            "prior": prior(condition_columns=["shape"]),
        },
        origin="the test's config",
    )  # fmt: skip
    run(config, "encode")
    return config


@pytest.mark.parametrize("column", ["shape", "depth", "box"])
def test_the_condition_matters(emoji: PipelineConfig, column: str) -> None:
    found = gains(emoji, {"condition_columns": [column]}, [column])
    assert found[column].is_no_chance, found


def test_boxes_are_those_of_the_annotations(emoji: PipelineConfig) -> None:
    pipeline = Pipeline(emoji)
    tokens = TokenDataset.open(pipeline.artifact("tokens"))
    column = tokens.meta.column("box")
    assert column.preprocessing["classes"] == ["tall", "wide", "round"]
    layout = LayoutConfig(codebook_size=BOX_CODES, max_objects=1)
    rows = tokens.tokens("train", column="box")
    boxes = [next(layout_objects(row, layout, 3)) for row in rows.tolist()]
    assert len({item.category for item in boxes}) == 3
    assert all(item.box.width > item.box.height - 0.3 for item in boxes if item.category == 1)
    assert all(item.box.height > item.box.width - 0.3 for item in boxes if item.category == 0)
    drawn = pictures_of(column, rows[:2], pipeline.store, torch.device("cpu"))
    assert drawn[0].shape == (128, 128, 3)
