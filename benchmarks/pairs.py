"""Two or three ways of doing the same work, in turns, and the ratios of their times.

On a CPU time is processor time, which neighbours on the machine do not use up; on a GPU it is what the clock says.
Every repeat runs all ways one after another, ratios are taken within a repeat, and what is reported is the median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

REPEATS = 5


@dataclass(frozen=True)
class Pair:
    """Our way and the plain way; `count` units of work a call."""

    name: str
    unit: str
    count: int
    ours: Callable[[], object]
    plain: Callable[[], object]
    flops: float | None = None
    """Floating-point operations of one call, where they are known."""
    precision: str = "fp32"
    """In which ours computes: fp32 or bf16."""
    bound: float | None = None
    """Units a second that the machine allows at most, where that is known."""


@dataclass(frozen=True)
class Result:
    """What came out of a pair: units a second, and ratios with their range."""

    name: str
    unit: str
    ours: float
    plain: float
    ratio: float
    lowest: float
    highest: float
    share_of_bound: float | None = None
    peer: float | None = None
    """Median ratio of the peer's time to ours; above 1: ours is faster."""

    def line(self) -> str:
        """For the terminal."""
        share = "" if self.share_of_bound is None else f"  {self.share_of_bound:.0%} of the bound"
        peer = "" if self.peer is None else f"  peer x {self.peer:.2f}"
        return (
            f"{self.name:<46}{self.ours:>11.1f} {self.unit:<9} plain {self.plain:>10.1f}  x {self.ratio:.2f} "
            f"({self.lowest:.2f} to {self.highest:.2f}){share}{peer}\n"
        )


def measure(
    pair: Pair, peak: float | None = None, peer: Callable[[], float] | None = None, repeats: int = REPEATS
) -> Result:
    """Run ours, plain and the peer in turns, after one warm-up each.

    Args:
        pair: the work.
        peak: floating-point operations a second that the machine reaches in a large matrix product.
        peer: does the same work elsewhere and says how many seconds it took.
        repeats: turns.
    """
    pair.ours(), pair.plain()
    if peer is not None:
        peer()
    rows = [(seconds(pair.ours), seconds(pair.plain), peer() if peer is not None else 0.0) for _ in range(repeats)]
    ratios = [plain / ours for ours, plain, _ in rows]
    ours, plain, _ = (statistics.median(column) for column in zip(*rows, strict=True))
    share = _share(pair, ours, peak)
    others = None if peer is None else statistics.median(theirs / own for own, _, theirs in rows)
    return Result(
        pair.name, pair.unit, pair.count / ours, pair.count / plain, statistics.median(ratios), min(ratios),
        max(ratios), share, others,
    )  # fmt: skip


def _share(pair: Pair, spent: float, peak: float | None) -> float | None:
    """Of what the machine allows: by the pair's own bound, or by its operations."""
    if pair.bound is not None:
        return pair.count / spent / pair.bound
    return None if peak is None or pair.flops is None else pair.flops / spent / peak


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def peak_flops(dtype: torch.dtype, sizes: Sequence[int] = (1024, 2048)) -> float:
    """Floating-point operations a second in a large matrix product: what a share of the peak is a share of."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for size in sizes:
        matrix = torch.randn(size, size, device=device).to(dtype)
        matrix @ matrix
        found += [2 * size**3 / seconds(lambda m=matrix: m @ m) for _ in range(REPEATS)]  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
    return max(found)
