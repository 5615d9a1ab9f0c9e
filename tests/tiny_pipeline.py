"""All stages over 49 small images, without Prefect: real artifacts in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.store import Artifact
from tasks.config import PipelineConfig
from tasks.pipeline import STEPS, Pipeline
from tasks.stage import execute

NUM_IMAGES = 48


def write_images(folder: Path) -> Path:
    """Three classes of sixteen 20×20 images, and one file that is no image."""
    random = np.random.default_rng(0)
    for name in ("crosses", "dots", "stripes"):
        (folder / name).mkdir(parents=True)
        for number in range(NUM_IMAGES // 3):
            pixels = random.integers(0, 80, (20, 20), np.uint8)
            if name == "crosses":
                pixels[8:12], pixels[:, 8:12] = 220, 220
            elif name == "dots":
                pixels[6:14, 6:14] = 220
            else:
                pixels[::4] = 220
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    (folder / "dots" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


def tiny_config(store: str | Path, images: Path, overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
    """The smallest pipeline in which every stage has work to do; dotted overrides."""
    training = {
        "num_steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "validate_every_steps": 4,
        "num_validation_records": 8,
    }
    execution = {"device": "cpu", "num_threads": 1}
    often = {**execution, "checkpoint_every_steps": 2, "log_every_steps": 1}
    values = {
        "name": "tiny",
        "store.url": str(store),
        "shard.source": {"kind": "folder", "url": str(images)},
        "shard.size_px": 16,
        "shard.channels": 1,
        "shard.validation_fraction": 0.25,
        "shard.images_per_shard": 20,
        "shard.execution.num_processes": 1,
        "tokenizer.codebook_size": 16,
        "tokenizer.codebook_dim": 4,
        "tokenizer.quantizer.restart_dead_codes_after_steps": 3,
        "tokenizer.autoencoder": {
            "image_channels": 1,
            "resolution_px": 16,
            "base_channels": 8,
            "channel_multipliers": [1, 2],
            "num_res_blocks": 1,
            "attention_resolutions": [],
            "latent_channels": 8,
            "num_groups": 4,
        },
        "tokenizer.loss.perceptual": "none",
        "tokenizer.loss.adversarial": {"kind": "patchgan", "base_channels": 8, "num_layers": 1, "start_step": 2},
        "tokenizer.training": training,
        "tokenizer.execution": often,
        "encode.execution": execution,
        "prior.num_layers": 1,
        "prior.num_heads": 2,
        "prior.width": 16,
        "prior.training": training,
        "prior.execution": often,
        "sample.num_per_class": 2,
        "sample.guidance": 1.5,
        "sample.images_per_shard": 2,
        "sample.execution": execution,
        "evaluate.classifier": {"num_steps": 4, "batch_size": 8, "base_channels": 4, "size_px": 8},
        "evaluate.execution": execution,
    }
    return PipelineConfig.load(overrides={**values, **(overrides or {})})


def run_stages(config: PipelineConfig, last: str = "evaluate") -> dict[str, Artifact]:
    """Run the stages up to `last`; the artifacts by kind."""
    pipeline, made = Pipeline(config), {}
    for name, step in STEPS.items():
        made[step.stage.kind] = pipeline.store.get(execute(pipeline.request(name), pipeline.store))
        if name == last:
            break
    return made


def interrupt(config: PipelineConfig, stage: str, after: int) -> None:
    """Run one stage until it has reported `after` units, then break it off as Ctrl-C does."""
    pipeline = Pipeline(config)
    try:
        execute(pipeline.request(stage), pipeline.store, _BreaksOff(after))
    except KeyboardInterrupt:
        return
    raise AssertionError(f"{stage} reported fewer than {after} units")


class _BreaksOff:
    """A reporter that interrupts."""

    def __init__(self, after: int) -> None:
        self._after = after

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[_BreaksOff]:
        yield self

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        if done >= self._after:
            raise KeyboardInterrupt

    def say(self, message: str) -> None:
        """Nothing to say."""
