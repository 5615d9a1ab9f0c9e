"""The groups of metrics of the evaluate stage, each computed on its own from published artifacts.

Axes: B batch, N tokens, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
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
    BATCH,
    ClassifierSpec,
    DomainClassifier,
    Metric,
    Seen,
    accuracy_metrics,
    bits_per_dimension,
    domain_metrics,
    label_map_metrics,
    mean_metric,
    reconstruction_metrics,
    unigram_nll,
    usage_metrics,
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

    def samples(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples, B C H W in [-1, 1], and their classes (-1: none), batch by batch."""
        drawn = read_samples(self.subjects.samples)
        while pairs := list(islice(drawn, BATCH)):
            pixels = np.stack([np.atleast_3d(image) for image, _ in pairs])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
            yield images.contiguous(), torch.tensor([-1 if label is None else label for _, label in pairs])

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

    def images(self, batch_size: int | None = None) -> Iterator[Mapping[str, Tensor]]:
        """What is judged, centre-cropped, in key order: the plane that the tokenizer encodes."""
        size, limit = batch_size or self.config.execution.batch_size, self.config.num_images
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
    return [*metrics, *usage_metrics(CodeUsage(histogram), n=metrics[0].n, reference=bench.reference)]


def likelihood(bench: Bench, _work: Work) -> list[Metric]:
    """NLL of validation tokens under the prior, and under per-position frequencies of the training tokens.

    A prior that is told something is also scored with what belongs to another record, in another view if there are
    several (a coordinate is the same for all records of a view): how much it looks at its condition.
    """
    tokens, spec, config = bench.tokens, bench.prior.spec, bench.prior.config
    split = "val" if tokens.num_records("val") else "train"
    names = [name for name in ("labels", *config.condition_columns) if name != "labels" or bench.prior.takes_labels]
    others = {name: _others(tokens, split, name) for name in names}
    told: list[Tensor] = []
    shuffled: list[Tensor] = []
    with torch.no_grad():
        for batch in tokens.sequential(split, bench.config.execution.batch_size, **reads(config)):
            told.append(_nll_of_records(bench, batch))
            if names:
                start = sum(map(len, shuffled))
                rows = {name: values[start : start + len(batch["tokens"])] for name, values in others.items()}
                shuffled.append(_nll_of_records(bench, {**batch, **rows}))
    of_records = torch.cat(told)
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
    found = [
        mean_metric("prior NLL", of_records, unit="nats/token", **common),
        mean_metric("prior bits/dim", bits, **spread, **common),
        Metric(name="unigram NLL", value=unigram, **baseline, **common),
    ]
    if names and len(of_records) > 1:
        note = f"with another record's {' and '.join(names)}"
        metric = mean_metric(
            "prior NLL, shuffled condition", torch.cat(shuffled), unit="nats/token", note=note, **common
        )
        found.append(metric)
    return found


def _nll_of_records(bench: Bench, batch: Mapping[str, Tensor]) -> Tensor:
    """Nats a token of each record, told what the batch says."""
    given = {name: values.to(bench.device) for name, values in batch.items()}
    nll = bench.prior.nll(given["tokens"], given["labels"], columns=given)
    return nll.double().mean(dim=1).cpu()


def _others(tokens: TokenDataset, split: str, name: str) -> Tensor:
    """Of each record, the label or a column of the one before it, as the last view shows it."""
    rows = tokens.labels(split) if name == "labels" else tokens.tokens(split, tokens.views[-1], name)
    return rows.roll(1, 0)


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
    real = Seen.of(judge, ((batch["images"], batch["labels"]) for batch in bench.images(BATCH)))
    samples = Seen.of(judge, bench.samples())
    found: list[Metric] = []
    num_neighbours = bench.config.num_neighbours
    if min(len(samples.labels), len(real.labels) // 2) > num_neighbours:
        found += domain_metrics(
            judge, real.features, samples.features, reference=bench.reference, num_neighbours=num_neighbours,
            seed=bench.config.seed,
        )  # fmt: skip
    else:
        work.reporter.say(
            f"evaluate: {len(samples.labels)} samples and {len(real.labels)} real images are too few for FD-domain, "
            f"precision and recall with num_neighbours {num_neighbours}: "
            f"they need {num_neighbours + 1} and {2 * (num_neighbours + 1)}"
        )
    if bool((samples.labels >= 0).all()):
        found += accuracy_metrics(
            judge, real=real, samples=samples, reference=bench.reference, held_out=bench.split == "val"
        )
    return found


#: Name → measurement, in the order in which they need each other.
UNITS: Mapping[str, Callable[[Bench, Work], list[Metric]]] = {
    "reconstruction": reconstruction,
    "likelihood": likelihood,
    "classifier": classifier,
    "generation": generation,
}
