"""What a report shows, as plain data: no artifact is opened and nothing is computed when a page is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.report.pictures import Picture

__all__ = ["CodeUse", "Curves", "KeyNumber", "Likelihood", "ReportInputs", "SampleRow", "curves_from_history"]

Point = tuple[float, float]


@dataclass(frozen=True)
class KeyNumber:
    """One of the few numbers at the top of the page."""

    label: str
    value: str
    hint: str = ""


@dataclass(frozen=True)
class SampleRow:
    """Samples of one class, or of none."""

    name: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Curves:
    """One chart: named series over steps, or something else. Names that hold "validation" are drawn with dots."""

    title: str
    unit: str
    series: Mapping[str, Sequence[Point]]
    logarithmic: bool = False
    horizontal: str = "step"
    """What the horizontal axis counts."""


@dataclass(frozen=True)
class CodeUse:
    """How often each codebook entry was chosen over a fixed set."""

    counts: Sequence[int] | NDArray[np.int64]
    usage: float
    """Share of entries that were chosen at all."""
    perplexity: float
    """Exponential of the entropy: the number of equally frequent entries that would be as varied."""
    over: str = ""
    """Which images were counted."""


@dataclass(frozen=True)
class Likelihood:
    """NLL of validation tokens, in nats a token, under the prior and under per-position frequencies."""

    prior: float
    unigram: float
    codebook_size: int
    bits_per_dimension: float | None = None


@dataclass(frozen=True)
class ReportInputs:
    """Everything on the page. What is empty or None leaves its section out."""

    name: str
    sentence: str
    """What this is, in one sentence."""
    key_numbers: Sequence[KeyNumber] = ()
    originals: Sequence[Picture] = ()
    reconstructions: Sequence[Picture] = ()
    """One for each original, in the same order."""
    held_out: bool = True
    """Whether no training saw the originals."""
    samples: Sequence[SampleRow] = ()
    curves: Sequence[Curves] = ()
    code_use: CodeUse | None = None
    likelihood: Likelihood | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    """Dumps of `vqgan_core.evaluation.Metric`."""
    manifests: Sequence[Mapping[str, Any]] = ()
    """Manifests of the artifacts that led here, in the order of the pipeline."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The config of the run."""

    def __post_init__(self) -> None:
        """Refuse what would show pictures beside the wrong ones.

        Raises:
            ValueError: there is not one reconstruction for each original.
        """
        if len(self.originals) != len(self.reconstructions):
            raise ValueError(f"{len(self.originals)} originals, but {len(self.reconstructions)} reconstructions")


def curves_from_history(
    history: Sequence[Mapping[str, Any]], keys: Mapping[str, str], *, title: str, unit: str, logarithmic: bool = False
) -> Curves:
    """Pick series out of a training history.

    Args:
        history: rows with a `step`; a row need not hold every key.
        keys: name in the chart → key in the rows. Keys that no row holds are left out.
        title: heading of the chart.
        unit: what the vertical axis counts.
        logarithmic: vertical axis.
    """
    series = {
        name: [(float(row["step"]), float(row[key])) for row in history if row.get(key) is not None]
        for name, key in keys.items()
    }
    return Curves(title, unit, {name: points for name, points in series.items() if points}, logarithmic)
