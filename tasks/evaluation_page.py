"""From an evaluation's artifacts and metrics to the report's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.curves import prior_curves, tokenizer_curves
from tasks.evaluation_units import Bench
from tasks.plane import pictures
from tasks.report import (
    CodeUse,
    KeyNumber,
    Likelihood,
    ReportInputs,
    SampleRow,
    render,
    summary_markdown,
)
from tasks.report.wording import percent
from tasks.sample import read_samples
from vqgan_core.evaluation import Metric
from vqgan_core.quantizers import CodeUsage
from vqgan_core.training.images import images_of

SAMPLES_A_CLASS = 10
KEY_NUMBERS: Mapping[str, tuple[str, Callable[[float], str], str]] = {
    "PSNR": ("Reconstruction", "{:.1f} dB".format, "PSNR of {n:,} {images}"),
    "codebook usage": ("Codebook", percent, "entries in use on {n:,} {images}"),
    "prior NLL": ("Prior", "{:.3f}".format, "nats a token on {n:,} {images}"),
    "classifier accuracy, samples": ("Samples", percent, "of {n:,} read as the class that was asked for"),
}


def pages(bench: Bench, metrics: Sequence[Metric], name: str) -> dict[str, bytes]:
    """The report as one HTML file, and in short as markdown for Prefect's page of the run."""
    inputs = _inputs(bench, metrics, name)
    return {"report.html": render(inputs).encode(), "summary.md": summary_markdown(inputs).encode()}


def _inputs(bench: Bench, metrics: Sequence[Metric], name: str) -> ReportInputs:
    found = {metric.name: metric for metric in metrics}
    images = "held-out images" if bench.split == "val" else "training images"
    originals, reconstructions = _pictures(bench)
    histogram = bench.tokens.code_histogram("train")
    return ReportInputs(
        name=name,
        sentence=_sentence(bench),
        key_numbers=[
            KeyNumber(label, written(found[key].value), hint.format(n=found[key].n, images=images))
            for key, (label, written, hint) in KEY_NUMBERS.items()
            if key in found
        ],
        originals=originals,
        reconstructions=reconstructions,
        held_out=bench.split == "val",
        samples=_sample_rows(bench),
        curves=[*tokenizer_curves(bench.subjects.tokenizer), *prior_curves(bench.subjects.prior)],
        code_use=CodeUse(
            histogram.tolist(), usage=CodeUsage(histogram).usage, perplexity=CodeUsage(histogram).perplexity,
            over="all training images",
        ),
        likelihood=Likelihood(
            prior=found["prior NLL"].value, unigram=found["unigram NLL"].value,
            codebook_size=bench.tokenizer.codebook_size, bits_per_dimension=found["prior bits/dim"].value,
        ),
        metrics=[metric.model_dump(mode="json") for metric in metrics],
        manifests=[artifact.manifest.model_dump(mode="json") for artifact in bench.subjects.in_order()],
        recipe={artifact.manifest.stage: artifact.manifest.recipe for artifact in bench.subjects.in_order()},
    )  # fmt: skip


def _sentence(bench: Bench) -> str:
    corpus, spec = bench.corpus, bench.prior.spec
    return (
        f"{sum(corpus.splits.values()):,} images in {corpus.num_classes or 'no'} classes, as grids of "
        f"{spec.height}×{spec.width} tokens out of {spec.codebook_size:,}, and a transformer that draws new ones."
    )


@torch.no_grad()
def _pictures(bench: Bench) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    config = bench.tokenizer.config
    shown = next(iter(bench.images()))[config.batch_name][: bench.config.num_pictures]
    given = images_of({config.batch_name: shown.to(bench.device)}, config)
    return pictures(shown, config), pictures(bench.tokenizer(given).reconstruction, config)


def _sample_rows(bench: Bench) -> list[SampleRow]:
    rows: dict[int | None, list[NDArray[np.uint8]]] = {}
    for pixels, label in read_samples(bench.subjects.samples):
        if len(rows.setdefault(label, [])) < SAMPLES_A_CLASS:
            rows[label].append(pixels)
    names = bench.prior.spec.class_names
    return [SampleRow(_class_name(label, names), pictures) for label, pictures in rows.items()]


def _class_name(label: int | None, names: Sequence[str]) -> str:
    """An imported prior has classes without names."""
    if label is None:
        return "samples"
    return names[label] if names else f"class {label}"
