"""The curves of a run: running means of metrics, and rows that hold no wall-clock values.

Rows are part of byte-exact artifacts and live in the checkpoint, so that a killed and resumed run ends with the same
ones. Means are summed in double precision on the device: nothing waits for the GPU before a row is due.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqgan_core.config import canonical_json

Row = dict[str, int | float | None]
"""`step`, `train/…`, `validation/…` and, once a batch was left out, `skipped_steps`; null stands for NaN and Inf."""


class RunningMeans:
    """Means of metrics since the last `clear`; a metric counts only the steps that reported it."""

    def __init__(self) -> None:
        self._sums: dict[str, float | Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Count one step's metrics; tensors stay where they are."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + _widened(value)
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The means so far, in one transfer from the device."""
        return {name: total / self._counts[name] for name, total in self._totals().items()}

    def clear(self) -> None:
        """Start over."""
        self._sums, self._counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts as plain numbers."""
        return {"sums": self._totals(), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; sums go on in the same order, so means are bit-equal."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _totals(self) -> dict[str, float]:
        tensors = {name: value for name, value in self._sums.items() if isinstance(value, Tensor)}
        fetched = torch.stack(list(tensors.values())).tolist() if tensors else []
        return {**self._sums, **dict(zip(tensors, fetched, strict=True))}


def row(step: int, train: Mapping[str, float], validation: Mapping[str, float], num_skipped: int) -> Row:
    """One history row."""
    values: Row = {"step": step}
    values.update({f"train/{name}": _number(value) for name, value in train.items()})
    values.update({f"validation/{name}": _number(value) for name, value in validation.items()})
    if num_skipped:
        values["skipped_steps"] = num_skipped
    return values


def history_bytes(history: Sequence[Row]) -> bytes:
    """The rows as JSON lines (`curves.jsonl`): canonical JSON, floats as they are."""
    return b"".join(canonical_json(dict(values)) + b"\n" for values in history)


def _widened(value: float | Tensor) -> float | Tensor:
    if not isinstance(value, Tensor):
        return float(value)
    value = value.detach()
    return value.float() if value.device.type == "mps" else value.double()  # MPS has no doubles


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
