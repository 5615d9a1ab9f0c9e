"""Stage compare: artifacts side by side → one page: numbers, curves, the same images and the same seeds.

Tokenizers reconstruct the same images, of the first side's corpus; priors draw from the same seeds and classes, each
with the settings of its own sample set. Pictures show, numbers decide: those come from the sides' evaluations and are
set side by side only where everything that they depend on is the same. Page and summary are views, like an
evaluation's report.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from datasets.corpus import Corpus
from tasks.comparison_sides import Side, differing_recipes
from tasks.drawing import Drawer
from tasks.models import load_prior, load_tokenizer, require_own_tokenizer
from tasks.plane import to_pixels
from tasks.report.comparison import Column, Comparison, Row, comparison_markdown, render_comparison
from tasks.report.inputs import Curves, Point
from tasks.sample_plan import Sample
from tasks.stage import Product, Request, Stage, Work, input_of
from vqgan_core.config import CompareConfig, SampleConfig, SamplingConfig, canonical_json
from vqgan_core.training import prepare, resolve_device
from vqgan_core.training.streams import stream_seed

STAGE = Stage("compare", "3", "comparison")
_CURVES = (
    ("tokenizer", "validation/l1", "Tokenizer: validation L1", ""),
    ("tokenizer", "validation/psnr", "Tokenizer: validation PSNR", "dB"),
    ("prior", "validation/nll", "Prior: validation NLL", "nats/token"),
)


def request(config: CompareConfig, sides: Sequence[Side]) -> Request:
    """Ask for the comparison of artifacts."""
    known = {ref.fingerprint: ref for side in sides for ref in map(input_of, (side.given, *side.artifacts.values()))}
    recipe = config.recipe() | {"order": [side.given.manifest.fingerprint for side in sides]}
    names = " and ".join(side.given.manifest.fingerprint[:8] for side in sides)
    return Request(STAGE, recipe, tuple(known.values()), partial(_build, config, sides), f"compare · {names}")


def _build(config: CompareConfig, sides: Sequence[Side], work: Work) -> Product:
    device = resolve_device(config.execution.device)
    prepare(device, num_threads=config.execution.num_threads)
    with work.reporter.bar("compare", 2 * len(sides), "pictures") as bar:
        originals, reconstructions = _reconstructed(config, sides, device)
        bar.update(len(sides))
        samples = [_drawn(config, side, device) for side in sides]
        bar.update(2 * len(sides))
    differences, metrics = differing_recipes(sides), [side.metrics() for side in sides]
    comparison = Comparison(
        columns=[Column(side.letter, side.given.manifest.model_dump(mode="json"), side.evaluation) for side in sides],
        differences=[Row(name, values) for name, values in differences],
        metrics=metrics,
        curves=[_overlaid(sides, *curve) for curve in _CURVES],
        originals=originals,
        reconstructions=reconstructions,
        samples=samples,
    )
    told = {"differences": dict(differences), "metrics": metrics}
    views = {"comparison.html": render_comparison(comparison), "summary.md": comparison_markdown(comparison)}
    return Product(
        files={"comparison.json": canonical_json(told)},
        views={name: text.encode() for name, text in views.items()},
        summary={"headline": f"{len(sides)} sides, {len(differences)} fields differ"},
        device=str(device),
    )


@torch.no_grad()
def _reconstructed(
    config: CompareConfig, sides: Sequence[Side], device: torch.device
) -> tuple[list[NDArray[Any]], list[list[NDArray[Any]]]]:
    """The originals, and each side's reconstructions of them; a side that cannot take these images has none."""
    if "corpus" not in sides[0].artifacts:
        return [], [[] for _ in sides]
    corpus = Corpus.open(sides[0].artifacts["corpus"])
    split = "val" if corpus.num_records("val") else "train"
    shown: list[list[NDArray[Any]]] = []
    originals: list[NDArray[Any]] = []
    for side in sides:
        tokenizer = load_tokenizer(side.artifacts["tokenizer"], device)
        wanted = tokenizer.config.autoencoder
        fits = wanted.image_channels == corpus.channels and wanted.resolution_px <= corpus.size_px
        if not fits or tokenizer.config.takes_label_maps:
            shown.append([])
            continue
        passed = corpus.sequential(split, config.num_images, size_px=wanted.resolution_px, limit=config.num_images)
        images = next(iter(passed))["images"]
        originals = originals or to_pixels(images)
        shown.append(to_pixels(tokenizer(images.to(device)).reconstruction))
    return originals, shown


def _drawn(config: CompareConfig, side: Side, device: torch.device) -> list[NDArray[Any]]:
    """Images of a side's prior; none of a side without one, or one that is told more than a class."""
    if "prior" not in side.artifacts:
        return []
    require_own_tokenizer(side.artifacts["prior"], side.artifacts["tokenizer"])
    prior = load_prior(side.artifacts["prior"], device)
    if prior.is_conditional and not prior.takes_labels:
        return []
    given = side.artifacts["samples"].manifest.recipe if "samples" in side.artifacts else {}
    settings = SampleConfig.model_validate({k: v for k, v in given.items() if k in SamplingConfig.model_fields})
    labels = [i % prior.spec.num_classes if prior.takes_labels else None for i in range(config.num_samples)]
    items = [Sample(i, label, stream_seed(config.seed, f"sample {i}")) for i, label in enumerate(labels)]
    drawer = Drawer(settings, prior, load_tokenizer(side.artifacts["tokenizer"], device), device)
    return [drawn.pixels for drawn in drawer.draw(items)]


def _overlaid(sides: Sequence[Side], kind: str, key: str, title: str, unit: str) -> Curves:
    series: dict[str, Sequence[Point]] = {}
    for side in sides:
        points = [(float(row["step"]), float(row[key])) for row in side.history(kind) if row.get(key) is not None]
        if points:
            series[f"{side.letter} validation"] = points
    return Curves(title, unit, series)
