"""All distances between two sets of images in the features of one extractor, under names that say which.

`FID`, `sFID`, `KID` and `IS` are the names of numbers in the features of the one published Inception file. In any other
network's features the same formulas are `FD-…`, `KD-…` and so on, with the extractor's name. A Fréchet distance has the
number of images in its name: it falls as that rises, and two of different counts must not stand in one line.

The first letter says what was judged: r reconstructions, p reconstructions from perturbed indices, g samples.

Samples have a floor beside each number: the same between two disjoint sets of real images, whose features were kept.
One of them stands in for the samples; a Fréchet distance has a floor only where it can have as many images as they
have, because it falls as that number rises. (Of perfect reconstructions every distance is 0.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core.config.protocol import ProtocolConfig
from vqgan_core.evaluation.extractor import Extractor
from vqgan_core.evaluation.frechet import GaussianStatistics, frechet_distance
from vqgan_core.evaluation.inception import Inception
from vqgan_core.evaluation.inception_score import inception_score
from vqgan_core.evaluation.kernel_distance import kernel_distance
from vqgan_core.evaluation.metric import FID_SHA256, Metric
from vqgan_core.evaluation.precision_recall import density_coverage, precision_recall
from vqgan_core.evaluation.set_summary import SetSummary
from vqgan_core.evaluation.sums import FeatureSums

__all__ = ["JudgedSet", "set_distances"]


@dataclass(frozen=True)
class JudgedSet:
    """Which set is judged, against which."""

    letter: str
    """r, p or g."""
    judged: SetSummary
    reference: SetSummary
    reference_name: str
    """With the fingerprint of its artifact."""
    note: str = ""
    """How it was made, where that moves the numbers."""
    departure: str = ""
    """Where it is not what the protocol asks for."""

    @property
    def is_decoded(self) -> bool:
        """Whether the judged images came as floats; samples are bytes since they were drawn."""
        return self.letter != "g"


def set_distances(sets: JudgedSet, extractor: Extractor, protocol: ProtocolConfig) -> Iterator[Metric]:
    """Every distance that the sets are large enough for."""
    judged, reference, letter = sets.judged, sets.reference, sets.letter
    common = _common(sets, extractor, protocol)
    frechet = {"higher_is_better": False, "n": judged.count, "n_reference": reference.count}
    few = partial(_few, min(judged.count, reference.count))
    named = _Names(extractor)
    floor = _Floor.of(sets, protocol)
    if min(judged.count, reference.count) >= 2:
        value = frechet_distance(judged.pooled, reference.pooled)
        of_real = None if floor is None else floor.frechet(judged.count)
        yield Metric(
            name=f"{letter}{named.frechet}@{judged.count}",
            value=value,
            floor=of_real,
            **frechet | few(judged.pooled, common),
        )
    if judged.spatial is not None and reference.spatial is not None:
        value = frechet_distance(judged.spatial, reference.spatial)
        yield Metric(
            name=f"{letter}s{named.frechet}@{judged.count}", value=value, **frechet | few(judged.spatial, common)
        )
    kept: dict[str, Any] = {"n": len(judged.kept), "n_reference": len(reference.kept)}
    if (len(judged.kept), len(reference.kept)) < (judged.count, reference.count):
        kept |= _noted(f"chosen by seed {protocol.seed}", common)
    found = _of_kept_features(real=reference.kept, judged=judged.kept, letter=letter, protocol=protocol)
    least = {} if floor is None else floor.of_kept_features(protocol)
    for kind, outcome in found.items():
        yield _metric(kind, outcome, least.get(kind), named, common | kept, letter)
    if judged.logits is not None and len(judged.logits) >= protocol.num_splits:
        score = inception_score(judged.logits, num_splits=protocol.num_splits, seed=protocol.seed)
        yield Metric(
            name=named.score, value=score.value, deviation=score.deviation, higher_is_better=True, n=judged.count,
            **_noted(f"{score.num_splits} shuffled splits, seed {protocol.seed}", common) | {"reference": ""},
        )  # fmt: skip


class _Names:
    def __init__(self, extractor: Extractor) -> None:
        published = extractor.name == Inception.name and extractor.sha256.startswith(FID_SHA256)
        self._suffix = "" if published else f"-{extractor.name}"
        self.frechet = "FID" if published else f"FD{self._suffix}"
        self.kernel = "KID" if published else f"KD{self._suffix}"
        self.score = f"IS{self._suffix}"

    def other(self, name: str) -> str:
        return f"{name}{self._suffix or '-inception-v3'}"


@dataclass(frozen=True)
class _Outcome:
    """A number of kept features, and what is said of it."""

    value: float
    note: str
    higher_is_better: bool = True
    deviation: float | None = None


@dataclass(frozen=True)
class _Floor:
    """Real images that stand in for samples, and, disjoint from them, real images that they are compared with."""

    stand_in: Float[Tensor, "n D"]
    rest: Float[Tensor, "m D"]

    @classmethod
    def of(cls, sets: JudgedSet, protocol: ProtocolConfig) -> _Floor | None:
        """From the reference's kept features; None of reconstructions, and of too few."""
        kept = sets.reference.kept
        count = min(len(sets.judged.kept), len(kept) // 2)
        if sets.letter != "g" or count < 2:
            return None
        order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(protocol.seed))
        return cls(kept[order[:count]], kept[order[count:]])

    def frechet(self, num_judged: int) -> float | None:
        """Where the stand-in has as many images as were judged."""
        if len(self.stand_in) < num_judged:
            return None
        return frechet_distance(*(FeatureSums.of(features).statistics() for features in (self.stand_in, self.rest)))

    def of_kept_features(self, protocol: ProtocolConfig) -> dict[str, _Outcome]:
        """As of samples."""
        return _of_kept_features(real=self.rest, judged=self.stand_in, letter="g", protocol=protocol)


def _of_kept_features(*, real: Tensor, judged: Tensor, letter: str, protocol: ProtocolConfig) -> dict[str, _Outcome]:
    """Kernel distance and, of samples, precision, recall, density and coverage, by name."""
    distance = kernel_distance(
        real, judged, num_subsets=protocol.num_subsets, subset_size=protocol.subset_size, seed=protocol.seed
    )
    subsets = f"{distance.num_subsets} subsets of {distance.subset_size}, seed {protocol.seed}"
    subsets = "all images in one set" if distance.deviation is None else subsets
    found = {"kernel": _Outcome(distance.value, subsets, higher_is_better=False, deviation=distance.deviation)}
    smaller = min(len(real), len(judged)) if letter == "g" else 0
    if smaller > protocol.num_neighbours:
        shares = precision_recall(real, judged, num_neighbours=protocol.num_neighbours)
        k = f"k = {protocol.num_neighbours}, border included"
        found |= {"precision": _Outcome(shares.precision, k), "recall": _Outcome(shares.recall, k)}
    if smaller > protocol.num_density_neighbours:
        near = density_coverage(real, judged, num_neighbours=protocol.num_density_neighbours)
        k = f"k = {protocol.num_density_neighbours}, border left out"
        found |= {"density": _Outcome(near.density, k), "coverage": _Outcome(near.coverage, k)}
    return found


def _metric(
    kind: str, outcome: _Outcome, floor: _Outcome | None, named: _Names, common: dict[str, Any], letter: str
) -> Metric:
    return Metric(
        name=f"{letter}{named.kernel}" if kind == "kernel" else named.other(kind), value=outcome.value,
        floor=None if floor is None else floor.value, deviation=outcome.deviation,
        higher_is_better=outcome.higher_is_better, **_noted(outcome.note, common),
    )  # fmt: skip


def _noted(text: str, common: dict[str, Any]) -> dict[str, Any]:
    """What all have in common, and a note in front of theirs."""
    return common | {"note": "; ".join(filter(None, (text, common["note"])))}


def _few(num_images: int, statistics: GaussianStatistics, common: dict[str, Any]) -> dict[str, Any]:
    """A Fréchet distance of fewer images than features is one of Gaussians whose shape is mostly a guess."""
    width = len(statistics.mean)
    if num_images > width:
        return common
    return _noted(f"too few images for {width:,} features: much above what more would give", common)


def _common(sets: JudgedSet, extractor: Extractor, protocol: ProtocolConfig) -> dict[str, Any]:
    return {
        "reference": sets.reference_name,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "value_range": f"bytes, {'truncated' if sets.is_decoded and protocol.rounding == 'truncate' else 'rounded'}",
        "library": extractor.library,
        "note": sets.note,
        "follows": ", but ".join(filter(None, (protocol.described, sets.departure))),
    }
