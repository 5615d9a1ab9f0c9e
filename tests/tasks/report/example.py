"""A whole report from real digits: reconstructions are the digits blurred, curves and manifests are made up."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from tasks.report import CodeUse, KeyNumber, Likelihood, ReportInputs, SampleRow, curves_from_history

STAGES = ("shard", "train_tokenizer", "encode", "train_prior", "sample", "evaluate")
KINDS = ("corpus", "tokenizer", "tokens", "prior", "samples", "evaluation")
MADE_FROM = ((), (0,), (0, 1), (2,), (3, 1), (4, 0, 1, 3))
SUMMARIES: tuple[dict[str, Any], ...] = (
    {"num_train": 1707, "num_val": 90, "num_quarantined": 0, "num_classes": 10},
    {"psnr": 27.31, "codebook_usage": 0.94, "num_steps": 900},
    {"num_records": 1797, "num_tokens": 64},
    {"nll": 2.1834, "best_step": 1400},
    {"num_samples": 200},
    {},
)


def digits() -> dict[int, list[Image.Image]]:
    """The digits at 32 px, by class."""
    bunch = load_digits()
    found: dict[int, list[Image.Image]] = {label: [] for label in range(10)}
    for image, label in zip(bunch.images[:400], bunch.target[:400], strict=True):
        small = Image.fromarray(np.uint8(image * 255 / 16))
        found[int(label)].append(small.resize((32, 32), Image.Resampling.BICUBIC))
    return found


def histories() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows as a training run writes them: losses often, validation now and then."""
    noise = np.random.default_rng(0)
    steps = range(10, 1501, 10)
    tokenizer = [{"step": s, "train/loss": 0.05 + 0.6 * np.exp(-s / 120) + 0.01 * noise.random()} for s in steps]
    prior = [{"step": s, "train/loss": 1.9 + 2.6 * np.exp(-s / 200) + 0.06 * noise.random()} for s in steps]
    for rows, offset in ((tokenizer, 0.008), (prior, 0.21)):
        for row in rows[9::10]:
            row["validation/loss"] = row["train/loss"] + offset
    return tokenizer, prior


def manifests() -> list[dict[str, Any]]:
    """One for each artifact of the pipeline."""
    names = [f"{index + 1:x}c0ffee{index}" * 8 for index in range(len(KINDS))]
    seconds = (2.4, 141.2, 3.1, 96.8, 7.5, 14.9)
    return [
        {
            "kind": kind,
            "stage": STAGES[index],
            "fingerprint": names[index],
            "digest": names[index][::-1],
            "recipe": {"source": {"kind": "digits"}} if kind == "corpus" else {},
            "inputs": [{"kind": KINDS[i], "fingerprint": names[i], "digest": names[i][::-1]} for i in MADE_FROM[index]],
            "files": [{"path": "file", "bytes": 350_000 * (index + 1), "sha256": "0" * 64}],
            "summary": SUMMARIES[index],
            "environment": {"packages": {"torch": "2.14.1", "numpy": "2.4.6"}, "commit": "5547b67", "device": "cpu"},
            "cost": {"seconds": seconds[index], "device_seconds": 0.0},
        }
        for index, kind in enumerate(KINDS)
    ]


def metric(name: str, value: float, **others: Any) -> dict[str, Any]:
    """A metric's dump."""
    return {"name": name, "value": value, "n": 90, "higher_is_better": True, "library": "torch 2.14.1"} | others


def metrics() -> list[dict[str, Any]]:
    """Rows of the metrics table."""
    pixels = {"reference": "digits/val@1c0ffee0", "value_range": "[0, 1], data range 1, clamped, not rounded"}
    domain = {
        "n": 200,
        "n_reference": 1597,
        "reference": "digits@1c0ffee0",
        "extractor": "domain-classifier",
        "extractor_sha256": "a1b2c3d4" * 8,
        "resize": "32×32 px, bilinear, antialiased",
    }
    k = "k = 3, border included"
    return [
        metric("L1", 0.0412, higher_is_better=False, reference=pixels["reference"]),
        metric("PSNR", 27.31, unit="dB", note="mean of the images' decibels, 100 at most", **pixels),
        metric("SSIM", 0.9511, note="11×11 Gaussian window, σ 1.5", **pixels),
        metric("FD-domain", 4.871, floor=1.213, higher_is_better=False, note="not texture", **domain),
        metric("precision", 0.905, floor=0.942, note=k, **domain),
        metric("recall", 0.873, floor=0.951, note=k, **domain),
        metric("classifier accuracy, samples", 0.965, **domain),
    ]


def example_inputs() -> ReportInputs:
    """Every section filled."""
    by_class = digits()
    originals = [images[i] for i in range(2) for images in by_class.values()][:16]
    counts = np.sort(np.random.default_rng(0).zipf(1.3, 256) % 900)
    counts[:15] = 0
    tokenizer, prior = histories()
    keys = {"training": "train/loss", "validation": "validation/loss"}
    return ReportInputs(
        name="digits",
        sentence="A VQGAN and a class-conditional transformer, trained on 1,797 handwritten digits at 32 px.",
        key_numbers=(
            KeyNumber("Reconstruction", "27.3 dB", "PSNR on 90 held-out images"),
            KeyNumber("Codebook in use", "94 %", "of 256 codes"),
            KeyNumber("Prior", "2.18 nats", "a token, 37 % below code frequencies"),
            KeyNumber("Samples read as asked", "96.5 %", "of 200"),
        ),
        originals=originals,
        reconstructions=[image.filter(ImageFilter.GaussianBlur(0.8)) for image in originals],
        samples=[SampleRow(str(label), images[:20]) for label, images in by_class.items()],
        curves=(
            curves_from_history(tokenizer, keys, title="Tokenizer", unit="loss", logarithmic=True),
            curves_from_history(prior, keys, title="Prior", unit="NLL, nats a token"),
        ),
        code_use=CodeUse(counts, usage=241 / 256, perplexity=93.4, over="90 validation images"),
        likelihood=Likelihood(prior=2.1834, unigram=3.4711, codebook_size=256, bits_per_dimension=0.1969),
        metrics=metrics(),
        manifests=manifests(),
        recipe={
            "name": "digits",
            "tokenizer": {"codebook_size": 256, "codebook_dim": 32, "autoencoder": {"base_channels": 32}},
            "prior": {"num_layers": 4, "num_heads": 4, "width": 128},
        },
    )
