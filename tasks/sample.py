"""Stage sample: prior + tokenizer → images, as WebDataset shards with label, seed and settings of each, and a grid.

Image i is drawn from its own seed, derived from the config's seed and i alone. A sample set can be the source of a new
corpus. A prior with condition columns is told records of a token dataset, and draws several images for each; of a
tokenizer of two levels, a second prior can draw what it is told. The unit
that survives a kill is one shard. Where a classifier rejects, shards of all that was drawn are such
units, and what is kept of them is published.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datasets.ingest.tar import read_tar, write_tar
from datasets.store import Artifact, InputRef, Store, Workspace
from datasets.store.fingerprint import sha256
from datasets.tokens import TokenDataset
from tasks.columns import check_compatible
from tasks.drawing import Drawer, Drawn, Score, about
from tasks.levels import check_top_prior
from tasks.models import load_prior, load_tokenizer, prior_config, require_own_tokenizer
from tasks.progress import Bar
from tasks.report.pictures import grid, png_bytes
from tasks.sample_plan import Records, Sample, num_drawn_per_class, num_images, planned, records_of
from tasks.stage import Headway, Product, Request, Stage, Work, input_of
from tasks.told import Told
from vqgan_core.config import ConfigError, SampleConfig, TorchvisionRejection
from vqgan_core.evaluation import DomainClassifier
from vqgan_core.evaluation.rejection import keep_best
from vqgan_core.evaluation.torchvision_scorer import ScorerWeightsError, TorchvisionScorer
from vqgan_core.prior import Prior
from vqgan_core.training import prepare, resolve_device

STAGE = Stage("sample", "1", "samples")
GRID_COLUMNS = 20


@dataclass(frozen=True)
class Given:
    """The artifacts that a sample set is made from."""

    prior: Artifact
    tokenizer: Artifact
    tokens: Artifact | None = None
    """Whose records are completed, or told."""
    evaluation: Artifact | None = None
    """Whose classifier rejects."""
    top_prior: Artifact | None = None
    """Draws the coarser level that the prior is told."""

    def inputs(self) -> tuple[InputRef, ...]:
        """Those that there are, in order."""
        present = (self.prior, self.tokenizer, self.tokens, self.evaluation, self.top_prior)
        return tuple(input_of(artifact) for artifact in present if artifact is not None)


def reads(config: SampleConfig) -> tuple[str, ...]:
    """Kinds of artifacts that a sample set needs beside prior and tokenizer, whatever the prior is told."""
    needed = {"tokens": config.completion.kind != "none", "evaluation": config.rejection.kind == "domain"}
    return tuple(kind for kind, is_needed in needed.items() if is_needed)


def request(
    config: SampleConfig,
    prior: Artifact,
    tokenizer: Artifact,
    *,
    tokens: Artifact | None = None,
    evaluation: Artifact | None = None,
    top_prior: Artifact | None = None,
) -> Request:
    """Ask for images of a prior.

    Args:
        config: what is drawn, and how.
        prior: draws tokens.
        tokenizer: turns them into images.
        tokens: has the records that are completed, or that a prior with condition columns is told; not looked at
            otherwise.
        evaluation: has the domain classifier that rejects; not looked at otherwise.
        top_prior: of a tokenizer of two levels, draws the coarser one, which the prior is told in place of a record's.

    Raises:
        ConfigError: an artifact is needed and not given, or the two priors do not fit.
        ScorerWeightsError: the weights of a torchvision classifier are not there.
    """
    there = {"tokens": tokens, "evaluation": evaluation}
    needed = {kind: there[kind] for kind in reads(config)}
    if top_prior is not None:
        check_top_prior(config, prior_config(prior), prior_config(top_prior))
    is_told = top_prior is None and bool(prior_config(prior)[0].condition_columns)
    if is_told:
        needed["tokens"] = tokens
    for kind, artifact in needed.items():
        if artifact is None:
            raise ConfigError(f"{_WANTS[kind]} needs a {kind} artifact: give `tessera sample … --{kind} FINGERPRINT`")
    given = Given(prior, tokenizer, **needed, top_prior=top_prior)
    inputs = (*given.inputs(), *_weights(config))
    label = f"sample · {config.num_per_class} a {'condition' if is_told else 'class'} · guidance {config.guidance:g}"
    build, headway = partial(_build, config, given), partial(_headway, config, prior, is_told)
    return Request(STAGE, config.recipe(), inputs, build, label, headway)


def refuse_later_inputs(config: SampleConfig) -> None:
    """Before hours of training: a whole pipeline makes its evaluation last, so its samples cannot be judged by it.

    Raises:
        ConfigError: the samples need one.
    """
    if "evaluation" in reads(config):
        raise ConfigError(
            "sample.rejection by the domain classifier needs an evaluation, which a pipeline makes last: run without "
            "rejection first, then `tessera sample … --evaluation FINGERPRINT`"
        )


_WANTS = {
    "tokens": "sample.completion, or a prior with condition columns,",
    "evaluation": "sample.rejection by the domain classifier",
}


def _weights(config: SampleConfig) -> tuple[InputRef, ...]:
    """Weights from outside, known by their content."""
    if not isinstance(config.rejection, TorchvisionRejection):
        return ()
    path = Path(config.rejection.weights).expanduser()
    if not path.is_file():
        raise ScorerWeightsError(f"sample.rejection.weights {path}: there is no such file")
    digest = sha256(path.read_bytes())
    return (InputRef(kind="weights", fingerprint=digest, digest=digest),)


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


def _build(config: SampleConfig, given: Given, work: Work) -> Product:
    drawer = _drawer(config, given)
    prior = drawer.prior
    num_classes = prior.spec.num_classes if drawer.takes_labels else 0
    samples = planned(config, num_classes, drawer.records, drawer.told)
    drawn = _draw_shards(drawer, samples, work)
    files = drawn if drawer.score is None else _kept(config, drawn)
    class_names = prior.spec.class_names if drawer.takes_labels else ()
    summary: dict[str, Any] = {"class_names": list(prior.spec.class_names)}
    if drawer.told is None:
        files = {**files, "grid.png": _grid(files, config, class_names)}
        count = config.num_per_class * max(1, num_classes)
    else:
        pictures = drawer.told.pictures(work.store, drawer.device)
        files = {**files, "grid.png": _grid_of_conditions(files, config, pictures)}
        count = config.num_per_class * len(drawer.told.keys)
        summary["told"] = drawer.told.summary()
    summary |= {"headline": _headline(config, count), "num_images": count}
    return Product(files=files, summary=summary, device=str(drawer.device))


def _headway(config: SampleConfig, prior: Artifact, is_told: bool, _store: Store, workspace: Workspace) -> Headway:
    told, spec = prior_config(prior)
    told = told if is_told else told.model_copy(update={"condition_columns": ()})
    total = num_images(config, told, spec.num_classes)
    shards = sum(name.startswith("samples-") for name in workspace.names())
    return Headway(min(total, shards * config.images_per_shard), total, "images")


def _headline(config: SampleConfig, count: int) -> str:
    text = f"{count} images, guidance {config.guidance:g}, temperature {config.temperature:g}"
    if config.num_beams:
        text = f"{count} images, the likeliest of {config.num_beams} beams"
    if config.size_px is not None:
        text += f", {config.size_px[0]}×{config.size_px[1]} px"
    if config.completion.kind != "none":
        text += f", completions ({config.completion.kind})"
    if config.rejection.kind != "none":
        text += f", the best {config.rejection.fraction:.3g} by {config.rejection.kind} classifier"
    return text


def _drawer(config: SampleConfig, given: Given) -> Drawer:
    device = resolve_device(config.execution.device)
    prepare(device, num_threads=config.execution.num_threads)
    require_own_tokenizer(given.prior, given.tokenizer)
    prior, tokenizer = load_prior(given.prior, device), load_tokenizer(given.tokenizer, device)
    told, top_prior = None, None if given.top_prior is None else load_prior(given.top_prior, device)
    if prior.config.condition_columns and top_prior is None:
        assert given.tokens is not None
        told = Told.open(given.tokens, prior, config.condition_split, config.num_conditions)
    records = _records(config, prior, given)
    drawer = Drawer(config, prior, tokenizer, device, told, records, top_prior=top_prior)
    return replace(drawer, score=_score(config, drawer, given))


def _records(config: SampleConfig, prior: Prior, given: Given) -> Records | None:
    if config.completion.kind == "none":
        return None
    assert given.tokens is not None
    tokens = TokenDataset.open(given.tokens)
    check_compatible(tokens, prior.config, prior.spec)
    return records_of(config, prior.config, prior.spec, tokens)


def _score(config: SampleConfig, drawer: Drawer, given: Given) -> Score | None:
    prior, device = drawer.prior, drawer.device
    if config.rejection.kind == "none":
        return None
    if not drawer.takes_labels:
        raise ValueError(
            "this prior is told no class, so no classifier can say whether an image shows it: no rejection"
        )
    if isinstance(config.rejection, TorchvisionRejection):
        return TorchvisionScorer(config.rejection, prior.spec.num_classes, device)
    assert given.evaluation is not None
    names = {entry.path for entry in given.evaluation.manifest.files}
    wanted = {"classifier.json", "classifier.safetensors"}
    if not wanted <= names:
        raise ValueError(
            f"the evaluation {given.evaluation.manifest.fingerprint[:12]} has no classifier: its corpus has no classes"
        )
    judge = DomainClassifier.from_files({name: given.evaluation.read(name) for name in wanted}).to(device)
    if judge.spec.class_names != prior.spec.class_names:
        raise ValueError(
            f"the classifier of evaluation {given.evaluation.manifest.fingerprint[:12]} knows other classes than the "
            "prior: give an evaluation of the same corpus"
        )
    return judge.confidence


def _draw_shards(drawer: Drawer, samples: Sequence[Sample], work: Work) -> dict[str, bytes]:
    """Every shard of what is drawn, from a dead run or drawn now and kept."""
    size, files = drawer.config.images_per_shard, {}
    with work.reporter.bar("sample", len(samples), "images") as bar:
        pace = _Pace(bar)
        for start in range(0, len(samples), size):
            chunk, name = samples[start : start + size], f"samples-{start // size:06d}.tar"
            data = work.workspace.get(name)
            if data is None:
                work.lease.check()
                data = _draw_shard(drawer, chunk, pace)
                work.workspace.put(name, data)
            files[name] = data
            pace.tell(start + len(chunk))
    return files


class _Pace:
    """Tells a bar how far it is, with the images a second that this run draws."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._started, self._count = bar, time.monotonic(), 0

    def drew(self, count: int) -> None:
        """Count a batch."""
        self._count += count

    def tell(self, done: int) -> None:
        """So many images are there, or drawn."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        self._bar.update(done, {"images/s": self._count / seconds} if self._count else None)


def _draw_shard(drawer: Drawer, chunk: Sequence[Sample], pace: _Pace) -> bytes:
    members = []
    for batch in drawer.batches(chunk):
        if batch[0] != chunk[0]:
            pace.tell(batch[0].number)
        for drawn in drawer.draw(batch):
            members += _members(drawn, about(drawer, drawn))
        pace.drew(len(batch))
    return write_tar(members)[0]


def _members(drawn: Drawn, told: bytes) -> list[tuple[str, bytes]]:
    key = f"{drawn.sample.number:08d}"
    return [(f"{key}.png", png_bytes(drawn.pixels)), (f"{key}.json", told)]


def _kept(config: SampleConfig, drawn: dict[str, bytes]) -> dict[str, bytes]:
    """Shards of the best fraction of each class, or of each record that was told, numbered anew."""
    assert config.rejection.kind != "none"
    images = [image for name in sorted(drawn) for image in _members_of(drawn[name])]
    abouts = [json.loads(told) for _, told in images]
    scores = torch.tensor([told["score"] for told in abouts], dtype=torch.float64)
    count = num_drawn_per_class(config)
    subjects = torch.arange(len(images)) // count
    chosen = [images[index] for index in keep_best(scores, config.rejection.fraction, subjects).tolist()]
    size, files = config.images_per_shard, {}
    for start in range(0, len(chosen), size):
        members = []
        for number, (png, told) in enumerate(chosen[start : start + size], start=start):
            members += [(f"{number:08d}.png", png), (f"{number:08d}.json", told)]
        files[f"samples-{start // size:06d}.tar"] = write_tar(members)[0]
    return files


def _members_of(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """PNG and JSON of each image of a shard, in order."""
    members = {member.name: content for member, content in read_tar(io.BytesIO(data))}
    for name in sorted(members):
        if name.endswith(".png"):
            yield members[name], members[name.removesuffix("png") + "json"]


def _read_shard(data: bytes) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
    for png, told in _members_of(data):
        yield np.asarray(Image.open(io.BytesIO(png))), json.loads(told)["class"]


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
