"""Sets of images through an extractor: piece by piece, in one process or several, and never twice.

Axes: `B batch, C channels, H×W pixels`.

A piece is 500 images of a set. Its features are a pure function of the piece: batches always have the same size, and
pieces begin at the same images, whatever the number of processes and wherever an earlier run was killed. Finished
pieces lie in the workspace until their set is summarised. The summary of a set of real images is a part of its own in
the store, named by all it depends on: every later evaluation against the same images finds it there.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from jaxtyping import UInt8
from torch import Tensor

from datasets.store import Part
from tasks.evaluation_units import Bench
from tasks.sample import read_samples
from tasks.stage import Work
from vqgan_core.config import ExtractorConfig, ProtocolConfig, canonical_json, sha256_json
from vqgan_core.evaluation import BATCH, Extractor, Features, SetSummary, as_bytes, build_extractor, joined
from vqgan_core.quantizers.neighbours import replace_by_neighbours
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import prepare
from vqgan_core.training.streams import stream

PIECE = 10 * BATCH
FORMAT = 2
"""Raised when summaries of the same images would come out otherwise."""


@dataclass(frozen=True)
class ImageSet:
    """Which images."""

    source: Literal["real", "reconstructed", "perturbed", "samples"]
    split: str
    """Of the corpus; of samples, empty."""
    count: int

    def pieces(self) -> list[range]:
        """Image numbers of each piece."""
        return [range(start, min(start + PIECE, self.count)) for start in range(0, self.count, PIECE)]


class SetReader:
    """Summarises sets of images in the features of one extractor.

    Args:
        bench: the artifacts.
        work: workspace, store and lease of the evaluation.
        config: of the extractor.
    """

    def __init__(self, bench: Bench, work: Work, config: ExtractorConfig) -> None:
        self.extractor: Extractor = build_extractor(config, bench.device)
        self.parts: list[Part] = []
        """Summaries of real images that were used."""
        self._bench, self._work, self._config = bench, work, config
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """End the processes, if there are any."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def summary(self, images: ImageSet) -> SetSummary:
        """The summary of a set: from the store, from an earlier run's workspace, or computed now."""
        if images.source == "real":
            return self._of_real(images)
        name = f"summary-{self._key(images)[:16]}.safetensors"
        data = self._work.workspace.get(name)
        if data is None:
            data = self._computed(images).to_bytes()
            self._work.workspace.put(name, data)
            self._drop_pieces(images)
        return SetSummary.from_bytes(data)

    def _of_real(self, images: ImageSet) -> SetSummary:
        key = self._key(images)
        part = self._work.store.part("statistics", key)
        if part is None:
            data = self._computed(images).to_bytes()
            part = self._work.store.put_part("statistics", key, {"summary.safetensors": data}, {"images": images.count})
            self._drop_pieces(images)
        if part not in self.parts:
            self.parts.append(part)
        return SetSummary.from_bytes(self._work.store.read_part(part, "summary.safetensors"))

    def _key(self, images: ImageSet) -> str:
        """Everything that a summary depends on."""
        bench, protocol = self._bench, self._bench.config.protocol
        made_by = {
            "real": [bench.subjects.corpus],
            "reconstructed": [bench.subjects.corpus, bench.subjects.tokenizer],
            "perturbed": [bench.subjects.corpus, bench.subjects.tokenizer],
            "samples": [bench.subjects.samples],
        }[images.source]
        perturbation = bench.config.perturbation if images.source == "perturbed" else None
        return sha256_json(
            [
                FORMAT,
                [images.source, images.split, images.count, bench.size_px],
                [artifact.manifest.digest for artifact in made_by],
                [self.extractor.name, self.extractor.sha256, self.extractor.resize],
                [_rounding(images, protocol), protocol.seed, self._num_kept(images), protocol.num_splits],
                None if perturbation is None else perturbation.model_dump(mode="json"),
            ]
        )

    def _num_kept(self, images: ImageSet) -> int:
        protocol = self._bench.config.protocol
        return protocol.num_kept_reference if images.source == "real" else protocol.num_kept_judged

    def _computed(self, images: ImageSet) -> SetSummary:
        names = {piece: self._piece_name(images, piece) for piece in images.pieces()}
        there = set(self._work.workspace.names())
        missing = [piece for piece, name in names.items() if name not in there]
        label = f"{images.source} · {self.extractor.name}"
        with self._work.reporter.bar(label, images.count, "images") as bar:
            done = images.count - sum(map(len, missing))
            bar.update(done)
            for piece, data in self._features(images, missing):
                self._work.lease.check()
                self._work.workspace.put(names[piece], data)
                done += len(piece)
                bar.update(done)
        return SetSummary.of(
            (self._read(name) for name in names.values()),
            count=images.count,
            num_kept=self._num_kept(images),
            seed=self._bench.config.protocol.seed,
            with_logits=images.source == "samples",
        )

    def _features(self, images: ImageSet, pieces: Sequence[range]) -> Iterator[tuple[range, bytes]]:
        if min(self._bench.config.execution.num_processes, len(pieces)) <= 1:
            for piece in pieces:
                yield piece, _piece_bytes(self._bench, self.extractor, images, piece)
            return
        if self._pool is None:
            count = self._bench.config.execution.num_processes
            job = (replace(self._bench), self._config)  # a fresh bench: a child opens its own models
            self._pool = ProcessPoolExecutor(count, _context(), initializer=_start, initargs=job)
        yield from zip(pieces, self._pool.map(partial(_in_child, images), pieces), strict=True)

    def _piece_name(self, images: ImageSet, piece: range) -> str:
        return f"features-{self._key(images)[:16]}-{piece.start:08d}.safetensors"

    def _drop_pieces(self, images: ImageSet) -> None:
        for piece in images.pieces():
            self._work.workspace.delete(self._piece_name(images, piece))

    def _read(self, name: str) -> Features:
        data = self._work.workspace.get(name)
        assert data is not None, f"{name} was there a moment ago"
        tensors = safetensors.torch.load(data)
        return Features(tensors["pooled"], tensors.get("spatial"), tensors.get("logits"))


def require_comparable(bench: Bench) -> None:
    """Refuse what no extractor can look at, and to perturb where an index has no neighbours.

    Raises:
        ValueError: the tokenizer is one of label maps; or pFID is asked for, and it has several indices a place.
    """
    if bench.tokenizer.config.takes_label_maps:
        raise ValueError("evaluate.extractors look at images, but this tokenizer is one of label maps: set them to []")
    if bench.config.perturbation is not None and _has_no_neighbours(bench.tokenizer):
        raise ValueError(
            "evaluate.perturbation replaces an index by its neighbours in the codebook, but this tokenizer's quantizer "
            f"({bench.tokenizer.config.quantizer.kind}) adds up several entries or levels: set it to null"
        )


def _has_no_neighbours(tokenizer: Tokenizer) -> bool:
    return tokenizer.config.top is not None or tokenizer.quantizer.indices_per_latent != 1


def _context() -> multiprocessing.context.BaseContext:
    """Not fork: the parent has threads, and perhaps CUDA. A fork server imports PyTorch once for all children."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Not our own modules: the server does not have our sys.path, and `datasets` there may be someone else's.
    context.set_forkserver_preload(["torch", "torchvision", "safetensors.torch", "pyarrow.parquet", "pydantic"])
    return context


_CHILD: list[tuple[Bench, Extractor]] = []


def _start(bench: Bench, config: ExtractorConfig) -> None:
    prepare(bench.device, num_threads=bench.config.execution.num_threads)
    _CHILD.append((bench, build_extractor(config, bench.device)))


def _in_child(images: ImageSet, piece: range) -> bytes:
    return _piece_bytes(*_CHILD[0], images, piece)


def _piece_bytes(bench: Bench, extractor: Extractor, images: ImageSet, piece: range) -> bytes:
    features = joined([extractor.features(batch) for batch in _batches(bench, images, piece)])
    named = {name: value.contiguous() for name, value in features._asdict().items() if value is not None}
    return safetensors.torch.save(named)


@torch.no_grad()
def _batches(bench: Bench, images: ImageSet, piece: range) -> Iterator[UInt8[Tensor, "B 3 H W"]]:
    if images.source == "samples":
        pixels = [np.atleast_3d(image) for image, _ in read_samples(bench.subjects.samples, piece)]
        for start in range(0, len(pixels), BATCH):
            stacked = torch.from_numpy(np.stack(pixels[start : start + BATCH])).permute(0, 3, 1, 2)
            yield stacked.expand(-1, 3, -1, -1)
        return
    number = piece.start
    for batch in bench.corpus.sequential(images.split, BATCH, size_px=bench.size_px).part(piece):
        shown = batch["images"].to(bench.device)
        if images.source == "reconstructed":
            shown = bench.tokenizer(shown).reconstruction
        elif images.source == "perturbed":
            shown = bench.tokenizer.decode(_perturbed(bench, bench.tokenizer.encode(shown), number))
        number += len(shown)
        yield as_bytes(shown, _rounding(images, bench.config.protocol))


def _rounding(images: ImageSet, protocol: ProtocolConfig) -> str:
    """Images that were bytes become them again: to cut off would take a level from those that floats put just below."""
    return protocol.rounding if images.source in ("reconstructed", "perturbed") else "round"


def _perturbed(bench: Bench, indices: Tensor, first: int) -> Tensor:
    config = bench.config.perturbation
    assert config is not None
    rows = [
        replace_by_neighbours(
            bench.tokenizer.quantizer, row[None], probability=config.probability, num_neighbours=config.num_neighbours,
            generator=stream(config.seed, f"perturbed image {first + offset}"),
        )
        for offset, row in enumerate(indices)
    ]  # fmt: skip
    return torch.cat(rows)


def parts_to_json(parts: Sequence[Part]) -> bytes:
    """Parts, to be found again by a run that goes on."""
    return canonical_json([part.model_dump(mode="json") for part in parts])
