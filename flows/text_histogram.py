"""A histogram as text: block characters on a terminal, as wide as asked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH = 64
HEIGHT = 6


def text_histogram(counts: Sequence[int], *, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Lines that show the share of each code, most frequent first.

    Args:
        counts: of each code. Neighbours in the order of frequency share a column where there are more than columns;
            where there are fewer, a code takes several.
        width: columns at most.
        height: lines of bars.
    """
    total = sum(counts)
    if not total:
        return ["(no tokens)"]
    bars = _columns(sorted((count / total for count in counts), reverse=True), width)
    top = max(bars)
    lines = []
    for level in reversed(range(height)):
        label = f"{100 * top:7.3g} % ┤" if level == height - 1 else " " * 10 + "│"
        lines.append(label + "".join(_block(bar / top * height - level) for bar in bars))
    lines.append(f"{0:7} % ┼" + "─" * len(bars))
    left, right = "most frequent", f"of {len(counts):,} codes"
    lines.append(" " * 11 + left + right.rjust(max(len(bars) - len(left), len(right) + 1)))
    return lines


def _columns(shares: Sequence[float], width: int) -> list[float]:
    if len(shares) <= width:
        return [share for share in shares for _ in range(width // len(shares))]
    edges = [round(column * len(shares) / width) for column in range(width + 1)]
    return [sum(shares[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def _block(filled: float) -> str:
    """How much of one cell is filled; what is not quite empty shows."""
    eighths = round(max(0.0, min(1.0, filled)) * 8)
    return BLOCKS[max(eighths, 1) if filled > 0 else eighths]
