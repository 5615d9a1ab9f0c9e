"""All distances between two sets of images in the features of one extractor, under names that say which.

`FID`, `sFID`, `KID` and `IS` are the names of numbers in the features of the one published Inception file. In any other
network's features the same formulas are `FD-…`, `KD-…` and so on, with the extractor's name. A Fréchet distance has the
number of images in its name: it falls as that rises, and two of different counts must not stand in one line.

The first letter says what was judged: r reconstructions, p reconstructions from perturbed indices, g samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vqgan_core.config.protocol import ProtocolConfig
from vqgan_core.evaluation.extractor import Extractor
from vqgan_core.evaluation.frechet import frechet_distance
from vqgan_core.evaluation.inception import Inception
from vqgan_core.evaluation.inception_score import inception_score
from vqgan_core.evaluation.kernel_distance import kernel_distance
from vqgan_core.evaluation.metric import FID_SHA256, Metric
from vqgan_core.evaluation.precision_recall import density_coverage, precision_recall
from vqgan_core.evaluation.set_summary import SetSummary

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


def set_distances(sets: JudgedSet, extractor: Extractor, protocol: ProtocolConfig) -> Iterator[Metric]:
    """Every distance that the sets are large enough for."""
    judged, reference, letter = sets.judged, sets.reference, sets.letter
    common = _common(sets, extractor, protocol)
    frechet = {"higher_is_better": False, "n": judged.count, "n_reference": reference.count}
    named = _Names(extractor)
    if min(judged.count, reference.count) >= 2:
        value = frechet_distance(judged.pooled, reference.pooled)
        yield Metric(name=f"{letter}{named.frechet}@{judged.count}", value=value, **frechet, **common)
    if judged.spatial is not None and reference.spatial is not None:
        value = frechet_distance(judged.spatial, reference.spatial)
        yield Metric(name=f"{letter}s{named.frechet}@{judged.count}", value=value, **frechet, **common)
    kept = {"n": len(judged.kept), "n_reference": len(reference.kept)}
    yield from _of_kept_features(sets, named, protocol, kept | common)
    if judged.logits is not None and len(judged.logits) >= protocol.num_splits:
        score = inception_score(judged.logits, num_splits=protocol.num_splits, seed=protocol.seed)
        yield Metric(
            name=named.score, value=score.value, deviation=score.deviation, higher_is_better=True, n=judged.count,
            **common | {"reference": "", "note": f"{score.num_splits} shuffled splits; {common['note']}"},
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


def _of_kept_features(
    sets: JudgedSet, named: _Names, protocol: ProtocolConfig, common: dict[str, Any]
) -> Iterator[Metric]:
    real, judged, letter = sets.reference.kept, sets.judged.kept, sets.letter
    note = common.pop("note")
    distance = kernel_distance(
        real, judged, num_subsets=protocol.num_subsets, subset_size=protocol.subset_size, seed=protocol.seed
    )
    yield Metric(
        name=f"{letter}{named.kernel}", value=distance.value, deviation=distance.deviation, higher_is_better=False,
        note=f"{distance.num_subsets} subsets of {distance.subset_size}; {note}", **common,
    )  # fmt: skip
    if letter != "g":
        return
    smaller = min(len(real), len(judged))
    if smaller > protocol.num_neighbours:
        shares = precision_recall(real, judged, num_neighbours=protocol.num_neighbours)
        k = f"k = {protocol.num_neighbours}, border included; {note}"
        for name, value in (("precision", shares.precision), ("recall", shares.recall)):
            yield Metric(name=named.other(name), value=value, higher_is_better=True, note=k, **common)
    if smaller > protocol.num_density_neighbours:
        found = density_coverage(real, judged, num_neighbours=protocol.num_density_neighbours)
        k = f"k = {protocol.num_density_neighbours}, border left out; {note}"
        for name, value in (("density", found.density), ("coverage", found.coverage)):
            yield Metric(name=named.other(name), value=value, higher_is_better=True, note=k, **common)


def _common(sets: JudgedSet, extractor: Extractor, protocol: ProtocolConfig) -> dict[str, Any]:
    return {
        "reference": sets.reference_name,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "value_range": f"bytes, {'rounded' if protocol.rounding == 'round' else 'truncated'}",
        "library": extractor.library,
        "note": "; ".join(filter(None, (protocol.described, sets.note))),
    }
