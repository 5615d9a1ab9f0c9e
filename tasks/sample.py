"""Stage sample: prior + tokenizer → images, as WebDataset shards with label, seed and settings of each, and a grid.

A prior with condition columns is told records of a token dataset, several images each. Image i is drawn from its own
seed, derived from the config's seed and i alone. A sample set can be the source of a new corpus. The unit that survives
a kill is one shard.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datasets.ingest.tar import read_tar, write_tar
from datasets.store import Artifact, Store, Workspace
from tasks.models import load_prior, load_tokenizer, prior_config, require_own_tokenizer
from tasks.plane import pictures
from tasks.report.pictures import grid, png_bytes
from tasks.stage import Headway, Product, Request, Stage, Work, input_of
from tasks.told import Told
from vqgan_core.config import PriorConfig, SampleConfig, SamplingConfig, canonical_json
from vqgan_core.prior import Prior, sample_tokens
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import prepare, resolve_device
from vqgan_core.training.streams import stream_seed

STAGE = Stage("sample", "1", "samples")
GRID_COLUMNS = 20


@dataclass(frozen=True)
class Sample:
    """One image to draw."""

    number: int
    label: int | None
    seed: int
    record: int | None = None
    """Which of the told records, if any."""


@dataclass(frozen=True)
class _Models:
    prior: Prior
    tokenizer: Tokenizer
    device: torch.device
    told: Told | None


def request(config: SampleConfig, prior: Artifact, tokenizer: Artifact, tokens: Artifact | None = None) -> Request:
    """Ask for images of a prior; `tokens` has the records that one with condition columns is told."""
    inputs = (input_of(prior), input_of(tokenizer)) + (() if tokens is None else (input_of(tokens),))
    kind = "class" if tokens is None else "condition"
    label = f"sample · {config.num_per_class} a {kind} · guidance {config.guidance:g}"
    build, headway = partial(_build, config, prior, tokenizer, tokens), partial(_headway, config, prior)
    return Request(STAGE, config.recipe(), inputs, build, label, headway)


def num_images(config: SampleConfig, prior: PriorConfig, num_classes: int) -> int:
    """Images of a sample set, if there are as many records to tell as are asked for."""
    if prior.condition_columns:
        return config.num_per_class * config.num_conditions
    return config.num_per_class * max(1, num_classes if prior.condition == "class" else 0)


def planned(config: SampleConfig, num_classes: int, told: Told | None = None) -> list[Sample]:
    """All images of a sample set, class by class or record by record; 0 classes for a prior that is told none."""
    subjects: list[tuple[int | None, int | None]]
    if told is not None:
        subjects = [(label if num_classes else None, record) for record, label in enumerate(told.labels.tolist())]
    else:
        subjects = [(label, None) for label in (range(num_classes) if num_classes else (None,))]
    each = [subject for subject in subjects for _ in range(config.num_per_class)]
    return [Sample(i, label, stream_seed(config.seed, f"sample {i}"), record) for i, (label, record) in enumerate(each)]


def read_samples(artifact: Artifact) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
    """Pixels (H W, or H W 3) and label of each image of a published sample set, in order."""
    for entry in artifact.manifest.files:
        if entry.path.endswith(".tar"):
            yield from _read_shard(artifact.read(entry.path))


def _build(
    config: SampleConfig, prior_artifact: Artifact, tokenizer_artifact: Artifact, tokens: Artifact | None, work: Work
) -> Product:
    models = _load(config, prior_artifact, tokenizer_artifact, tokens)
    spec = models.prior.spec
    samples = planned(config, spec.num_classes if models.prior.takes_labels else 0, models.told)
    per_shard = config.images_per_shard
    chunks = [samples[start : start + per_shard] for start in range(0, len(samples), per_shard)]
    files: dict[str, bytes] = {}
    with work.reporter.bar("sample", len(samples), "images") as bar:
        for index, chunk in enumerate(chunks):
            name = f"samples-{index:06d}.tar"
            data = work.workspace.get(name)
            if data is None:
                work.lease.check()
                data = _draw_shard(config, models, chunk)
                work.workspace.put(name, data)
            files[name] = data
            bar.update(chunk[-1].number + 1)
    if models.told is not None:
        files["grid.png"] = _grid_of_conditions(files, config, models.told.pictures(work.store, models.device))
    else:
        files["grid.png"] = _grid(files, config, spec.class_names if models.prior.takes_labels else ())
    summary = {
        "headline": f"{len(samples)} images, guidance {config.guidance:g}, temperature {config.temperature:g}",
        "num_images": len(samples),
        "class_names": list(spec.class_names),
    }
    if models.told is not None:
        summary["told"] = models.told.summary()
    return Product(files=files, summary=summary, device=str(models.device))


def _headway(config: SampleConfig, prior: Artifact, _store: Store, workspace: Workspace) -> Headway:
    told, spec = prior_config(prior)
    total = num_images(config, told, spec.num_classes)
    shards = sum(name.startswith("samples-") for name in workspace.names())
    return Headway(min(total, shards * config.images_per_shard), total, "images")


def _load(
    config: SampleConfig, prior_artifact: Artifact, tokenizer_artifact: Artifact, tokens: Artifact | None
) -> _Models:
    device = resolve_device(config.execution.device)
    prepare(device, num_threads=config.execution.num_threads)
    require_own_tokenizer(prior_artifact, tokenizer_artifact)
    prior = load_prior(prior_artifact, device)
    told = None if tokens is None else Told.open(tokens, prior, config.condition_split, config.num_conditions)
    return _Models(prior, load_tokenizer(tokenizer_artifact, device), device, told)


def _draw_shard(config: SampleConfig, models: _Models, chunk: Sequence[Sample]) -> bytes:
    pixels: list[NDArray[np.uint8]] = []
    size = config.execution.batch_size
    for start in range(0, len(chunk), size):
        pixels += _draw(config, models, chunk[start : start + size])
    members = []
    for item, image in zip(chunk, pixels, strict=True):
        key = f"{item.number:08d}"
        members += [(f"{key}.png", png_bytes(image)), (f"{key}.json", _about(config, models, item))]
    return write_tar(members)[0]


@torch.no_grad()
def _draw(config: SamplingConfig, models: _Models, batch: Sequence[Sample]) -> list[NDArray[np.uint8]]:
    spec = models.prior.spec
    labels = [item.label for item in batch if item.label is not None]
    given = torch.tensor(labels, device=models.device) if labels else None
    records = [item.record for item in batch if item.record is not None]
    columns = None if models.told is None else models.told.columns(records)
    tokens = sample_tokens(models.prior, given, [item.seed for item in batch], config, columns=columns)
    images = models.tokenizer.decode(tokens.reshape(len(batch), spec.height, spec.width))
    return pictures(images, models.tokenizer.config)


def _about(config: SampleConfig, models: _Models, item: Sample) -> bytes:
    names = models.prior.spec.class_names
    label = None if item.label is None else (names[item.label] if names else str(item.label))
    settings = SamplingConfig(**{name: getattr(config, name) for name in SamplingConfig.model_fields})
    about: dict[str, Any] = {"label": label, "class": item.label, "seed": item.seed}
    if models.told is not None and item.record is not None:
        about["told"] = {"key": models.told.keys[item.record], **models.told.summary()}
    return canonical_json(about | {"settings": settings.model_dump(mode="json")})


def _read_shard(data: bytes) -> Iterator[tuple[NDArray[np.uint8], int | None]]:

    members = {member.name: content for member, content in read_tar(io.BytesIO(data))}
    for name in sorted(members):
        if name.endswith(".png"):
            about = json.loads(members[name.removesuffix("png") + "json"])
            yield np.asarray(Image.open(io.BytesIO(members[name]))), about["class"]


def _grid_of_conditions(
    files: dict[str, bytes], config: SampleConfig, conditions: Sequence[Sequence[NDArray[np.uint8]]]
) -> bytes:
    """A row a record: what the prior was told, column by column, and then its images, twenty pictures at most."""
    drawn = [pixels for name in sorted(files) for pixels, _ in _read_shard(files[name])]
    shown = min(config.num_per_class, GRID_COLUMNS - len(conditions[0]))
    rows = [[*told, *drawn[record * config.num_per_class :][:shown]] for record, told in enumerate(conditions)]
    return grid([picture for row in rows for picture in row], columns=len(rows[0]))


def _grid(files: dict[str, bytes], config: SampleConfig, class_names: Sequence[str]) -> bytes:
    """At most twenty of each class, a row a class; without classes, rows of twenty."""
    pairs = [pair for name in sorted(files) for pair in _read_shard(files[name])]
    if not class_names:
        return grid([pixels for pixels, _ in pairs[: GRID_COLUMNS * GRID_COLUMNS]], columns=GRID_COLUMNS)
    columns = min(config.num_per_class, GRID_COLUMNS)
    chosen = [[pixels for pixels, label in pairs if label == number][:columns] for number in range(len(class_names))]
    return grid([pixels for row in chosen for pixels in row], columns=columns, row_labels=class_names)
