"""Stage sample: prior + tokenizer → images, as WebDataset shards with label, seed and settings of each, and a grid.

Image i is drawn from its own seed, derived from the config's seed and i alone. A sample set can be the source of a new
corpus. The unit that survives a kill is one shard.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
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
from vqgan_core.config import SampleConfig, SamplingConfig, canonical_json
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


@dataclass(frozen=True)
class Models:
    """What drawing takes."""

    prior: Prior
    tokenizer: Tokenizer
    device: torch.device


def request(config: SampleConfig, prior: Artifact, tokenizer: Artifact) -> Request:
    """Ask for images of a prior."""
    inputs = (input_of(prior), input_of(tokenizer))
    label = f"sample · {config.num_per_class} a class · guidance {config.guidance:g}"
    build, headway = partial(_build, config, prior, tokenizer), partial(_headway, config, prior)
    return Request(STAGE, config.recipe(), inputs, build, label, headway)


def num_images(config: SampleConfig, num_classes: int) -> int:
    """Images of a sample set; 0 classes for an unconditional prior."""
    return config.num_per_class * max(1, num_classes)


def planned(config: SampleConfig, num_classes: int) -> list[Sample]:
    """All images of a sample set, class by class."""
    labels: Sequence[int | None] = range(num_classes) if num_classes else (None,)
    pairs = [label for label in labels for _ in range(config.num_per_class)]
    return [Sample(i, label, stream_seed(config.seed, f"sample {i}")) for i, label in enumerate(pairs)]


def num_samples(artifact: Artifact) -> int:
    """Images of a published sample set."""
    return int(artifact.manifest.summary["num_images"])


def read_samples(artifact: Artifact, numbers: range | None = None) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
    """Pixels (H W, or H W 3) and label of each image of a published sample set, in order, or of some numbers."""
    wanted = range(num_samples(artifact)) if numbers is None else numbers
    shards = [entry.path for entry in artifact.manifest.files if entry.path.endswith(".tar")]
    per_shard = int(artifact.manifest.recipe["images_per_shard"])
    for index, path in enumerate(shards):
        start = index * per_shard
        if start < wanted.stop and wanted.start < start + per_shard:
            shard = _read_shard(artifact.read(path))
            yield from islice(shard, max(0, wanted.start - start), max(0, wanted.stop - start))


def _build(config: SampleConfig, prior_artifact: Artifact, tokenizer_artifact: Artifact, work: Work) -> Product:
    device = resolve_device(config.execution.device)
    prepare(device, num_threads=config.execution.num_threads)
    models = load_models(prior_artifact, tokenizer_artifact, device)
    spec = models.prior.spec
    samples = planned(config, spec.num_classes if models.prior.takes_labels else 0)
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
    files["grid.png"] = _grid(files, config, spec.class_names if models.prior.takes_labels else ())
    summary = {
        "headline": f"{len(samples)} images, guidance {config.guidance:g}, temperature {config.temperature:g}",
        "num_images": len(samples),
        "class_names": list(spec.class_names),
    }
    return Product(files=files, summary=summary, device=str(models.device))


def _headway(config: SampleConfig, prior: Artifact, _store: Store, workspace: Workspace) -> Headway:
    told, spec = prior_config(prior)
    total = num_images(config, spec.num_classes if told.condition == "class" else 0)
    shards = sum(name.startswith("samples-") for name in workspace.names())
    return Headway(min(total, shards * config.images_per_shard), total, "images")


def load_models(prior_artifact: Artifact, tokenizer_artifact: Artifact, device: torch.device) -> Models:
    """A prior and the tokenizer of its tokens, ready to draw.

    Raises:
        TokenMismatch: the tokenizer is another one.
    """
    require_own_tokenizer(prior_artifact, tokenizer_artifact)
    return Models(load_prior(prior_artifact, device), load_tokenizer(tokenizer_artifact, device), device)


def _draw_shard(config: SampleConfig, models: Models, chunk: Sequence[Sample]) -> bytes:
    pixels: list[NDArray[np.uint8]] = []
    size = config.execution.batch_size
    for start in range(0, len(chunk), size):
        pixels += draw(config, models, chunk[start : start + size])
    members = []
    for item, image in zip(chunk, pixels, strict=True):
        key = f"{item.number:08d}"
        members += [(f"{key}.png", png_bytes(image)), (f"{key}.json", _about(config, models.prior, item))]
    return write_tar(members)[0]


@torch.no_grad()
def draw(config: SamplingConfig, models: Models, batch: Sequence[Sample]) -> list[NDArray[np.uint8]]:
    """Draw some images, each from its own seed."""
    spec = models.prior.spec
    labels = [item.label for item in batch if item.label is not None]
    given = torch.tensor(labels, device=models.device) if labels else None
    tokens = sample_tokens(models.prior, given, [item.seed for item in batch], config)
    images = models.tokenizer.decode(tokens.reshape(len(batch), spec.height, spec.width))
    return pictures(images, models.tokenizer.config)


def _about(config: SampleConfig, prior: Prior, item: Sample) -> bytes:
    names = prior.spec.class_names
    label = None if item.label is None else (names[item.label] if names else str(item.label))
    settings = SamplingConfig(**{name: getattr(config, name) for name in SamplingConfig.model_fields})
    about: dict[str, Any] = {"label": label, "class": item.label, "seed": item.seed}
    return canonical_json(about | {"settings": settings.model_dump(mode="json")})


def _read_shard(data: bytes) -> Iterator[tuple[NDArray[np.uint8], int | None]]:

    members = {member.name: content for member, content in read_tar(io.BytesIO(data))}
    for name in sorted(members):
        if name.endswith(".png"):
            about = json.loads(members[name.removesuffix("png") + "json"])
            yield np.asarray(Image.open(io.BytesIO(members[name]))), about["class"]


def _grid(files: dict[str, bytes], config: SampleConfig, class_names: Sequence[str]) -> bytes:
    """At most twenty of each class, a row a class; without classes, rows of twenty."""
    pairs = [pair for name in sorted(files) for pair in _read_shard(files[name])]
    if not class_names:
        return grid([pixels for pixels, _ in pairs[: GRID_COLUMNS * GRID_COLUMNS]], columns=GRID_COLUMNS)
    columns = min(config.num_per_class, GRID_COLUMNS)
    chosen = [[pixels for pixels, label in pairs if label == number][:columns] for number in range(len(class_names))]
    return grid([pixels for row in chosen for pixels in row], columns=columns, row_labels=class_names)
