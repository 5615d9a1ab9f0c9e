"""The groups of metrics of the evaluate stage, each computed on its own from published artifacts.

Axes: B batch, N tokens, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.corpus import Corpus
from datasets.tokens import TokenDataset
from tasks.columns import reads
from tasks.models import load_prior, load_tokenizer
from tasks.plane import planes_of
from tasks.sample import read_samples
from tasks.stage import Work
from tasks.subjects import Subjects
from vqgan_core.config import EvaluateConfig
from vqgan_core.evaluation import (
    ClassifierSpec,
    DomainClassifier,
    Metric,
    accuracy_metrics,
    bits_per_dimension,
    domain_metrics,
    label_map_metrics,
    mean_metric,
    reconstruction_metrics,
    unigram_nll,
)
from vqgan_core.losses import build_perceptual
from vqgan_core.prior import Prior
from vqgan_core.quantizers import CodeUsage, code_histogram
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training.images import images_of


@dataclass(frozen=True)
class Bench:
    """The artifacts under evaluation, opened when first needed."""

    config: EvaluateConfig
    subjects: Subjects
    device: torch.device

    @cached_property
    def corpus(self) -> Corpus:
        """The images."""
        return Corpus.open(self.subjects.corpus)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, ready to encode."""
        return load_tokenizer(self.subjects.tokenizer, self.device)

    @cached_property
    def prior(self) -> Prior:
        """The prior, ready to score."""
        return load_prior(self.subjects.prior, self.device)

    @cached_property
    def tokens(self) -> TokenDataset:
        """The token dataset."""
        return TokenDataset.open(self.subjects.tokens)

    @cached_property
    def samples(self) -> tuple[Tensor, Tensor]:
        """All samples, B C H W in [-1, 1], and their classes (-1: none)."""
        pairs = list(read_samples(self.subjects.samples))
        pixels = np.stack([np.atleast_3d(image) for image, _ in pairs])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        return images.contiguous(), torch.tensor([-1 if label is None else label for _, label in pairs])

    @property
    def size_px(self) -> int:
        """Height and width of what is judged of an image: what the tokenizer was trained at."""
        return self.tokenizer.config.window_px

    @property
    def split(self) -> str:
        """Where images are judged: the validation split, or the training split of a corpus without one."""
        return "val" if self.corpus.num_records("val") else "train"

    @property
    def reference(self) -> str:
        """Name of the judged images in a metric."""
        return f"{self.split} split of corpus {self.subjects.corpus.manifest.fingerprint[:12]}"

    def images(self) -> Iterator[Mapping[str, Tensor]]:
        """What is judged, centre-cropped, in key order: the plane that the tokenizer encodes."""
        size, limit = self.config.execution.batch_size, self.config.num_images
        planes = planes_of(self.tokenizer.config)
        return iter(self.corpus.sequential(self.split, size, size_px=self.size_px, limit=limit, planes=planes))


def reconstruction(bench: Bench, _work: Work) -> list[Metric]:
    """L1, PSNR, SSIM, MS-SSIM and, with weights, LPIPS, or accuracy and IoU of label maps; use of the codebook."""
    config = bench.tokenizer.config
    histogram = torch.zeros(bench.tokenizer.codebook_size, dtype=torch.int64)
    lpips = None if bench.config.lpips is None or config.takes_label_maps else build_perceptual(bench.config.lpips)
    lpips = None if lpips is None else lpips.to(bench.device)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in bench.images():
            given = batch[config.batch_name].to(bench.device)
            images = images_of({config.batch_name: given}, config)
            output = bench.tokenizer(images)
            histogram.add_(code_histogram(output.indices, bench.tokenizer.codebook_size).cpu())
            yield given, output.reconstruction

    with torch.no_grad():
        if config.takes_label_maps:
            metrics = label_map_metrics(pairs(), config.autoencoder.image_channels, reference=bench.reference)
        else:
            metrics = reconstruction_metrics(pairs(), reference=bench.reference, lpips=lpips)
    count = metrics[0].n
    usage = CodeUsage(histogram)
    common = {"n": count, "higher_is_better": True, "reference": bench.reference}
    return [
        *metrics,
        Metric(name="codebook usage", value=usage.usage, note="share of entries that occur at all", **common),
        Metric(name="codebook perplexity", value=usage.perplexity, **common),
        Metric(name="dead codes", value=usage.num_dead, **common | {"higher_is_better": False}),
    ]


def likelihood(bench: Bench, _work: Work) -> list[Metric]:
    """NLL of validation tokens under the prior, and under per-position frequencies of the training tokens."""
    tokens, spec, config = bench.tokens, bench.prior.spec, bench.prior.config
    split = "val" if tokens.num_records("val") else "train"
    found: list[Tensor] = []
    with torch.no_grad():
        for batch in tokens.sequential(split, bench.config.execution.batch_size, **reads(config)):
            given = {name: rows.to(bench.device) for name, rows in batch.items()}
            nll = bench.prior.nll(given["tokens"], given["labels"], columns=given)
            found.append(nll.double().mean(dim=1).cpu())
    of_records = torch.cat(found)
    tokenizer = bench.tokenizer.config
    values_a_pixel = 1 if tokenizer.takes_label_maps else tokenizer.autoencoder.image_channels
    num_latents = spec.num_tokens // bench.tokenizer.quantizer.indices_per_latent
    values = values_a_pixel * num_latents * bench.tokenizer.factor**2
    bits = bits_per_dimension(of_records, num_tokens=spec.num_tokens, num_values=values)
    seen, held_out = (tokens.tokens(name, column=config.target) for name in ("train", split))
    unigram = unigram_nll(seen, held_out, spec.codebook_size)
    reference = f"{split} split of tokens {bench.subjects.tokens.manifest.fingerprint[:12]}"
    common: dict[str, Any] = {"higher_is_better": False, "reference": reference}
    spread = {"unit": "bits/dim", "note": "of the tokens, spread over pixels"}
    baseline = {"unit": "nats/token", "note": "per-position frequencies", "n": len(of_records)}
    return [
        mean_metric("prior NLL", of_records, unit="nats/token", **common),
        mean_metric("prior bits/dim", bits, **spread, **common),
        Metric(name="unigram NLL", value=unigram, **baseline, **common),
    ]


def classifier(bench: Bench, work: Work) -> list[Metric]:
    """Train the domain classifier on the corpus' labels and keep it for the samples; it has no metric of its own.

    Label maps have none: their classes are pixels'.
    """
    if bench.corpus.num_classes < 2 or bench.tokenizer.config.takes_label_maps:
        return []
    config = bench.config.classifier
    spec = ClassifierSpec(
        classifier=config,
        image_channels=bench.tokenizer.config.autoencoder.image_channels,
        class_names=bench.corpus.class_names,
        seed=bench.config.seed,
    )
    batches = bench.corpus.batches(
        "train", config.batch_size, seed=bench.config.seed, size_px=bench.size_px,
        planes=planes_of(bench.tokenizer.config),
    )  # fmt: skip
    with work.reporter.bar("classifier", config.num_steps, "steps") as bar:
        trained = DomainClassifier.train(
            batches(0), spec, device=bench.device, report=lambda step, loss: bar.update(step, {"loss": loss})
        )
    for name, data in trained.to_files().items():
        work.workspace.put(name, data)
    return []


def generation(bench: Bench, work: Work) -> list[Metric]:
    """FD-domain, precision, recall of samples, and whether the classifier reads the class that was asked for."""
    weights = {name: work.workspace.get(name) for name in ("classifier.json", "classifier.safetensors")}
    if any(data is None for data in weights.values()):
        return []
    judge = DomainClassifier.from_files({name: data for name, data in weights.items() if data}).to(bench.device)
    images, labels = bench.samples
    held_out = [(batch["images"], batch["labels"]) for batch in bench.images()]
    real, real_labels = (torch.cat(column) for column in zip(*held_out, strict=True))
    found: list[Metric] = []
    if min(len(images), len(real) // 2) > bench.config.num_neighbours:
        found += domain_metrics(
            judge, judge.features(real), judge.features(images), reference=bench.reference,
            num_neighbours=bench.config.num_neighbours, seed=bench.config.seed,
        )  # fmt: skip
    if bool((labels >= 0).all()):
        found += accuracy_metrics(
            judge, held_out=(real, real_labels), samples=(images, labels), reference=bench.reference
        )
    return found


#: Name → measurement, in the order in which they need each other.
UNITS: Mapping[str, Callable[[Bench, Work], list[Metric]]] = {
    "reconstruction": reconstruction,
    "likelihood": likelihood,
    "classifier": classifier,
    "generation": generation,
}
