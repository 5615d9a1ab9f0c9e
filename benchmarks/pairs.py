"""Two or three ways of doing the same work, in turns, and the ratios of their times.

Every repeat runs all ways one after another, ratios are taken within a repeat, and what is reported is the median, and
the quartiles: between them lies half of the repeats.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.breakdown import breakdown
from benchmarks.device import seconds
from benchmarks.roofline import Roofline
from benchmarks.targets import Target

REPEATS = 5


@dataclass(frozen=True)
class Pair:
    """Our way and the plain way; `count` units of work a call."""

    name: str
    unit: str
    count: int
    ours: Callable[[], object]
    plain: Callable[[], object]
    flops: float = 0.0
    """Floating-point operations of one call, where they are known."""
    moved_bytes: float = 0.0
    """Bytes that one call has to read at least, where they are known."""
    precision: str = "fp32"
    """In which ours computes: fp32 or bf16."""
    target: Target | None = None
    """What this is to reach."""
    repeats: int = REPEATS
    on_the_clock: bool = False
    """Whether waiting for other processes is part of the work."""
    per: str = ""
    """Where ours is plain with something around it, and what is asked is how much longer that takes: for each what."""


@dataclass(frozen=True)
class Result:
    """What came out of a pair: units a second, and ratios with their quartiles."""

    pair: Pair
    ours: float
    plain: float
    ratio: float
    quartiles: tuple[float, float]
    share: float | None = None
    """Of what the machine allows."""
    limit: str = ""
    """What bounds it."""
    peer: float | None = None
    """Median ratio of the peer's time to ours; above 1: ours is faster."""
    excess: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Milliseconds a unit of work that ours takes longer than plain: lower quartile, median, upper quartile."""
    parts: Mapping[str, float] | None = None
    """Where our time goes, of work that has a target: kind of operation → share."""

    def line(self) -> str:
        """For the terminal."""
        start = f"{self.pair.name:<56}{self.ours:>11.1f} {self.pair.unit:<9} plain {self.plain:>10.1f}"
        if self.pair.per:
            low, middle, high = self.excess
            return f"{start}  + {middle:.1f} ms a {self.pair.per} ({low:.1f} to {high:.1f})\n"
        low, high = self.quartiles
        share = "" if self.share is None else f"  {self.share:.0%} of {self.limit}"
        peer = "" if self.peer is None else f"  peer x {self.peer:.2f}"
        return f"{start}  x {self.ratio:.2f} ({low:.2f} to {high:.2f}){share}{peer}\n"


def measure(pair: Pair, roofline: Roofline | None = None, peer: Callable[[], float] | None = None) -> Result:
    """Run ours, plain and the peer in turns, after one call of each that does not count.

    Args:
        pair: the work.
        roofline: what the machine allows.
        peer: does the same work elsewhere and says how many seconds it took.
    """
    rows = [_turn(pair, peer) for _ in range(pair.repeats + 1)][1:]
    ratios = [plain / ours for ours, plain, _ in rows]
    excess = [(ours - plain) / pair.count * 1000 for ours, plain, _ in rows]
    low, high = _quartiles(excess)
    ours, plain, _ = (statistics.median(column) for column in zip(*rows, strict=True))
    has_bound = roofline is not None and (pair.flops or pair.moved_bytes)
    share, limit = None, ""
    if roofline is not None and has_bound:
        share = roofline.least_seconds(pair.flops, pair.moved_bytes, pair.precision) / ours
        limit = roofline.limit(pair.flops, pair.moved_bytes, pair.precision)
    return Result(
        pair, pair.count / ours, pair.count / plain, statistics.median(ratios), _quartiles(ratios), share, limit,
        None if peer is None else statistics.median(theirs / own for own, _, theirs in rows),
        (low, statistics.median(excess), high), None if pair.target is None else breakdown(pair.ours),
    )  # fmt: skip


def _turn(pair: Pair, peer: Callable[[], float] | None) -> tuple[float, float, float]:
    ours, plain = (seconds(way, on_the_clock=pair.on_the_clock) for way in (pair.ours, pair.plain))
    return ours, plain, 0.0 if peer is None else peer()


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
