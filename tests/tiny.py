"""The whole pipeline in seconds: 240 real digits as PNG files, 16 px, networks of a few thousand parameters.

It exercises what a real config does: a discriminator that starts midway, EMA, accumulation, dropout, two views,
guidance, several shards in every stage.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from datasets.config import FolderSource
from datasets.store import Artifact, Store
from tasks.config import PipelineConfig
from tasks.pipeline import STEPS, Pipeline
from tasks.progress import Bar, Reporter
from tasks.stage import execute

KINDS = ("corpus", "tokenizer", "tokens", "prior", "samples", "evaluation")
STAGES = tuple(STEPS)
NUM_DIGITS = 240
_CPU = {"device": "cpu", "num_threads": 1}

VALUES: Mapping[str, Any] = {
    "name": "tiny",
    "shard": {
        "size_px": 16, "channels": 1, "images_per_shard": 40, "validation_fraction": 0.2,
        "execution": {"num_processes": 1},
    },
    "tokenizer": {
        "codebook_size": 16,
        "codebook_dim": 4,
        "autoencoder": {
            "image_channels": 1, "resolution_px": 16, "base_channels": 8, "channel_multipliers": [1, 1, 2],
            "num_res_blocks": 1, "attention_resolutions": [], "latent_channels": 8, "num_groups": 4,
        },
        "quantizer": {"kind": "vector", "l2_normalize": True, "restart_dead_codes_after_steps": 6},
        "loss": {
            "perceptual": "none",
            "adversarial": {"kind": "patchgan", "base_channels": 8, "num_layers": 1, "start_step": 10},
        },
        "augment": {"horizontal_flip": True},
        "training": {
            "num_steps": 30, "batch_size": 8, "accumulate_batches": 2, "learning_rate": 1e-3, "ema_decay": 0.9,
            "validate_every_steps": 12, "num_validation_records": 32,
        },
        "execution": {**_CPU, "checkpoint_every_steps": 5, "log_every_steps": 1},
    },
    "encode": {"views": ["center", "center_flip"], "execution": _CPU},
    "prior": {
        "num_layers": 2, "num_heads": 2, "width": 32, "dropout": 0.1,
        "training": {
            "num_steps": 40, "batch_size": 8, "learning_rate": 1e-3, "validate_every_steps": 15,
            "num_validation_records": 32,
        },
        "execution": {**_CPU, "checkpoint_every_steps": 5, "log_every_steps": 1},
    },
    "sample": {"num_per_class": 2, "guidance": 1.5, "images_per_shard": 5, "execution": _CPU},
    "evaluate": {
        "classifier": {"num_steps": 12, "batch_size": 16, "base_channels": 4}, "num_pictures": 4, "execution": _CPU,
    },
}  # fmt: skip

TWO_LEVELS: Mapping[str, Any] = {
    "tokenizer__quantizer__kind": "ema",
    "tokenizer__top__codebook_size": 8,
    "tokenizer__top__codebook_dim": 4,
    "tokenizer__training__num_steps": 12,
    "prior__condition_columns": ["indices_top"],
    "prior__training__num_steps": 10,
    "sample__num_per_class": 1,
}
"""Overrides: a tokenizer of two grids, and a prior of the finer that is told the coarser."""


def write_digits(folder: Path, count: int = NUM_DIGITS, start: int = 0) -> Path:
    """Write scikit-learn's digits from `start` to `count` as 8×8 PNG files, a sub-folder a class."""
    bunch = load_digits()
    for number in range(start, count):
        path = folder / str(bunch.target[number]) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(bunch.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def tiny_config(store: str | Path, source: Path, **overrides: Any) -> PipelineConfig:
    """The tiny pipeline's config; overrides have `__` for the dots of their keys."""
    return PipelineConfig.load(None, _values(store, source) | _dotted(overrides))


def write_preset(path: Path, store: str | Path, source: Path, **overrides: Any) -> Path:
    """The same config as a YAML file."""
    config = tiny_config(store, source, **overrides)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    return path


def build(config: PipelineConfig, last: str = "evaluate", reporter: Reporter | None = None) -> dict[str, Artifact]:
    """Run the stages up to `last` with plain `execute`; the artifacts by kind."""
    pipeline = Pipeline(config)
    made = {}
    for name in STAGES[: STAGES.index(last) + 1]:
        store = Store.open(config.store)  # counts the bytes of one stage, as in a flow
        made[STEPS[name].stage.kind] = store.get(execute(pipeline.request(name), store, reporter))
    return made


@dataclass(frozen=True)
class Published:
    """A pipeline that has run: its config and its artifacts by kind."""

    config: PipelineConfig
    artifacts: Mapping[str, Artifact]

    @property
    def root(self) -> Path:
        """Folder of the store."""
        return Path(self.config.store.url)

    @property
    def source(self) -> Path:
        """Folder of the images."""
        assert isinstance(self.config.shard.source, FolderSource)
        return Path(self.config.shard.source.url)

    def without(self, kind: str, root: Path) -> Published:
        """A copy of the store in which an artifact, all that was made from it, and its parts have never been."""
        copy = self.copy(root)
        for name in KINDS[KINDS.index(kind) :]:
            for area in (name, f"parts/{name}"):
                shutil.rmtree(root / area, ignore_errors=True)
        shutil.rmtree(root / "claims")
        return copy

    def copy(self, root: Path, **overrides: Any) -> Published:
        """A copy of the whole store, to be damaged; with another config if told."""
        shutil.copytree(self.root, root)
        config = tiny_config(root, self.source, **overrides)
        store = Store.open(config.store)
        return Published(config, {kind: store.get(artifact.ref) for kind, artifact in self.artifacts.items()})


def contents(store: Store) -> dict[str, Any]:
    """What has to be the same wherever, and however often interrupted, it is made: names, digests, each file's sha256.

    Views are left out: they hold times.
    """
    manifests = store.artifacts()
    found = {
        manifest.kind: {
            "fingerprint": manifest.fingerprint,
            "digest": manifest.digest,
            "inputs": [ref.digest for ref in manifest.inputs],
            "files": {entry.path: entry.sha256 for entry in manifest.files},
        }
        for manifest in manifests
    }
    assert len(found) == len(manifests), "more than one artifact of a kind"
    return found


def _values(store: str | Path, source: Path) -> dict[str, Any]:
    folder = {"kind": "folder", "url": str(source)}
    return {**VALUES, "store": {"url": str(store)}, "shard": {**VALUES["shard"], "source": folder}}


def _dotted(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in overrides.items()}


class Recorder:
    """A reporter that keeps every update, and raises `Stopped` at one of them if told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.updates: list[tuple[str, int]] = []
        self.messages: list[str] = []
        self._stop_after = stop_after

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:
        """A count that is kept."""
        yield _RecordedBar(self, label)

    def say(self, message: str) -> None:
        """Keep it."""
        self.messages.append(message)

    def add(self, label: str, done: int) -> None:
        """Keep an update."""
        self.updates.append((label, done))
        if len(self.updates) == self._stop_after:
            raise Stopped(f"at {label} {done}")


class Stopped(Exception):  # noqa: N818 - it is no error
    """What a `Recorder` raises."""


@dataclass
class _RecordedBar:
    recorder: Recorder
    label: str

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Keep it."""
        self.recorder.add(self.label, done)

    def say(self, message: str) -> None:
        """Keep it."""
        self.recorder.messages.append(message)
