"""How good samples are, seen through the domain classifier: FD-domain, precision, recall, and whether classes fit.

Axes: `n images, D feature width`.

Every distance between sets is printed with its floor: the same distance between two real sets of the same two sizes.
To have one, the real images are split by a seeded shuffle into a reference and, disjoint from it, a stand-in for the
samples; samples and stand-in are then both compared with that reference, with equally many images each. Where there
are more samples than that, those that are judged are a seeded choice: a sample set is in order of its classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqgan_core.evaluation.classifier import DomainClassifier
from vqgan_core.evaluation.frechet import GaussianStatistics, frechet_distance
from vqgan_core.evaluation.metric import Metric
from vqgan_core.evaluation.pixel_metrics import mean_metric
from vqgan_core.evaluation.precision_recall import precision_recall

__all__ = ["Seen", "accuracy_metrics", "domain_metrics"]

_BLIND = "features of a classifier of the corpus' classes: sees layout, colour and missing classes, not texture"


class Seen(NamedTuple):
    """What a classifier makes of a set of images, which need never be in memory together."""

    features: Float[Tensor, "n D"]
    """Of each image."""
    is_right: Bool[Tensor, " n"]
    """Whether it is taken for the class of its label."""
    labels: Int[Tensor, " n"]
    """-1: none."""

    @classmethod
    def of(cls, classifier: DomainClassifier, batches: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Look at batches of images in [-1, 1], `B C H W`, and their labels; always of one size, for equal last bits.

        Raises:
            ValueError: there is no image.
        """
        parts = [
            (classifier.features(images).cpu(), classifier.predict(images).cpu() == labels.cpu(), labels.cpu())
            for images, labels in batches
        ]
        if not parts:
            raise ValueError("there is no image for the classifier to look at: the set is empty")
        return cls(*map(torch.cat, zip(*parts, strict=True)))


def domain_metrics(
    classifier: DomainClassifier,
    real: Float[Tensor, "R D"],
    samples: Float[Tensor, "S D"],
    *,
    reference: str,
    num_neighbours: int,
    seed: int,
) -> list[Metric]:
    """FD-domain, precision and recall of samples, each with its real-vs-real floor.

    Where the classifier was trained on the real images, its features of them are a little too clear-cut, in reference
    and stand-in alike: samples then cannot quite reach the floor.

    Args:
        classifier: the extractor that made both feature sets.
        real: features of real images; at most half of them become the stand-in that the floor is measured on.
        samples: features of samples; as many as the stand-in has are judged, chosen at random.
        reference: name of the real images, with the fingerprint of their artifact.
        num_neighbours: k of precision and recall.
        seed: seed of the split of the real images, and of the choice of samples.

    Raises:
        ValueError: too few images for k neighbours, or for a covariance.
    """
    count = min(len(samples), len(real) // 2)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(real), generator=generator)
    chosen = torch.randperm(len(samples), generator=generator)[:count].sort().values
    stand_in, rest = real.cpu()[order[:count]], real.cpu()[order[count:]]
    judged = samples.cpu()[chosen]
    value, floor = _compared(judged, rest, num_neighbours), _compared(stand_in, rest, num_neighbours)
    common = _network(classifier) | {"n": count, "reference": reference, "n_reference": len(rest)}
    k = f"k = {num_neighbours}, border included"
    return [
        Metric(name="FD-domain", value=value[0], floor=floor[0], higher_is_better=False, note=_BLIND, **common),
        Metric(name="precision", value=value[1], floor=floor[1], higher_is_better=True, note=k, **common),
        Metric(name="recall", value=value[2], floor=floor[2], higher_is_better=True, note=k, **common),
    ]


def accuracy_metrics(
    classifier: DomainClassifier,
    *,
    real: Seen,
    samples: Seen,
    reference: str,
    held_out: bool = True,
) -> list[Metric]:
    """Share of real images, and of samples, that the classifier takes for the class they should be.

    The first says how far the second can be trusted: samples that do much better than real images are caricatures.

    Args:
        classifier: what looked at both.
        real: what it makes of real images.
        samples: what it makes of samples, which all have a label.
        reference: name of the real images, with the fingerprint of their artifact.
        held_out: whether its training left the real images out; if not, the metric says so.
    """
    about: dict[str, Any] = {"higher_is_better": True}
    of_real = mean_metric(
        "classifier accuracy, real images",
        real.is_right.double(),
        reference=reference,
        note=f"images that its training {'did not see' if held_out else 'saw: too high'}",
        **about | _network(classifier),
    )
    asked = mean_metric(
        "classifier accuracy, samples",
        samples.is_right.double(),
        reference="the classes that were asked for",
        **about | _network(classifier),
    )
    return [of_real, asked]


def _compared(judged: Tensor, reference: Tensor, num_neighbours: int) -> tuple[float, float, float]:
    distance = frechet_distance(GaussianStatistics.of(judged), GaussianStatistics.of(reference))
    shares = precision_recall(reference, judged, num_neighbours=num_neighbours)
    return distance, shares.precision, shares.recall


def _network(classifier: DomainClassifier) -> dict[str, Any]:
    return {
        "extractor": classifier.name,
        "extractor_sha256": classifier.sha256,
        "resize": classifier.resize,
        "value_range": "[-1, 1]",
        "library": f"torch {torch.__version__}",
    }
