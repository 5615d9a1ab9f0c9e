"""Two ways of doing the same work, in turns, and the ratio of their times."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

REPEATS = 5


@dataclass(frozen=True)
class Pair:
    """Our way and the plain way; `count` units of work a call."""

    name: str
    unit: str
    count: int
    ours: Callable[[], object]
    plain: Callable[[], object]
    bound: float | None = None
    """Units a second that the machine allows at most, where that is known."""


def measure(pair: Pair, repeats: int = REPEATS) -> None:
    """Run A B A B … after one warm-up each, and print medians and the ratio pair by pair."""
    pair.ours(), pair.plain()
    times = [(_seconds(pair.ours), _seconds(pair.plain)) for _ in range(repeats)]
    ratios = [plain / ours for ours, plain in times]
    ours, plain = (pair.count / statistics.median(column) for column in zip(*times, strict=True))
    sys.stdout.write(
        f"{pair.name:<44}{ours:>12.1f} {pair.unit:<10} plain {plain:>12.1f}   x {statistics.median(ratios):.2f}"
        f"  ({min(ratios):.2f} to {max(ratios):.2f}){_share(ours, pair.bound)}\n"
    )
    sys.stdout.flush()


def _share(ours: float, bound: float | None) -> str:
    return "" if bound is None else f"   {ours / bound:.1%} of the bound {bound:.0f}"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
