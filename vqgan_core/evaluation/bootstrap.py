"""How sure a mean over images is: a percentile bootstrap.

Axes: `n images`.

Source: Efron 1979; percentile interval. Images are drawn anew with replacement, so the interval says how much the value
would move with other images of the same kind. It says nothing of another training run.

Departure: distances between sets get none. A resampled set holds duplicates, and a Fréchet distance grows with every
image that is lost; KID and IS have the spread of their subsets instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

__all__ = ["Interval", "mean_interval"]

_RESAMPLES = 1000
_LEVEL = 0.95
_AT_ONCE = 1 << 22  # drawn numbers that are held


class Interval(NamedTuple):
    """Bounds of the 95 % interval."""

    low: float
    high: float


def mean_interval(values: Float[Tensor, " n"], *, seed: int = 0) -> Interval:
    """The 95 % interval of the mean of independent values, from 1,000 resamples.

    Raises:
        ValueError: there is no value.
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected one value an image, got shape {tuple(values.shape)}")
    data = values.double().cpu().numpy()
    chooser = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, _AT_ONCE // len(data))
    means: list[np.ndarray] = []
    for start in range(0, _RESAMPLES, rows):
        count = min(rows, _RESAMPLES - start)
        means.append(data[chooser.integers(len(data), size=(count, len(data)))].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(low), float(high))
