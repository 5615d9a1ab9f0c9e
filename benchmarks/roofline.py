"""What the machine allows: operations a second in large matrix products, and bytes a second from and to memory.

Both are the best of some repeats, since a bound is what is reached when nothing interferes. Work that does F operations
and moves at least M bytes takes no less than max(F / operations a second, M / bytes a second).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from benchmarks.device import DEVICE, seconds

COPY_BYTES = 256 << 20 if DEVICE.type == "cpu" else 4 << 30
MATRIX_SIDES = (1024, 2048) if DEVICE.type == "cpu" else (8192,)
REPEATS = 5
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Roofline:
    """A machine's bounds."""

    flops: Mapping[str, float]
    """Operations a second in a large matrix product, by precision."""
    bandwidth: float
    """Bytes read and written a second by a copy that no cache holds."""

    @classmethod
    def measured(cls) -> Roofline:
        """By this process, with its number of threads."""
        return cls({name: _matrix_product(dtype) for name, dtype in FLOATS.items()}, _copy())

    def least_seconds(self, flops: float, moved_bytes: float, precision: str) -> float:
        """The time that this much work takes at least."""
        return max(flops / self.flops[precision], moved_bytes / self.bandwidth)

    def limit(self, flops: float, moved_bytes: float, precision: str) -> str:
        """Which of the two bounds it."""
        by_arithmetic = flops / self.flops[precision] >= moved_bytes / self.bandwidth
        return f"{precision} matrix products" if by_arithmetic else "memory"

    def line(self) -> str:
        """All of it."""
        products = ", ".join(f"{value / 1e9:,.0f} GFLOP/s in {name}" for name, value in self.flops.items())
        return f"a large matrix product reaches {products}; a copy moves {self.bandwidth / 1e9:.1f} GB/s"


def _matrix_product(dtype: torch.dtype) -> float:
    found = 0.0
    for side in MATRIX_SIDES:
        matrix = torch.randn(side, side, device=DEVICE).to(dtype)
        spent = [seconds(lambda m=matrix: m @ m) for _ in range(REPEATS + 1)]  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
        found = max(found, 2 * side**3 / min(spent[1:]))
    return found


def _copy() -> float:
    source = torch.zeros(COPY_BYTES // 4, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / min([seconds(lambda: target.copy_(source)) for _ in range(REPEATS + 1)][1:])
