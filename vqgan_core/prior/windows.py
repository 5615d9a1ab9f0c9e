"""Sliding windows over grids that are larger than a prior's own: which window each token is drawn in, and where.

Axes: H×W the large grid, h×w the window.

Source: arXiv 2012.09841 §3.3 (figure 3) and the original's two samplers: the plain one puts the token in the middle of
its window, with as much above and left as below and right, the one for scenes a cell further up and left. Both keep
the window inside of the grid. Departures: the window need not be square; what the original calls 16 is h, or w. And it
can start at every n-th cell alone, where a condition has one token for so many cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


def sliding_windows(
    grid: tuple[int, int], window: tuple[int, int], steps: tuple[int, int] = (1, 1)
) -> Int[Tensor, "H W 4"]:
    """Top, left, and the token's own row and column in its window, for each token of the grid.

    Args:
        grid: (H, W).
        window: (h, w), which the prior was trained on.
        steps: windows start at multiples of these; they divide grid and window.

    Raises:
        ValueError: the window does not fit into the grid.
    """
    rows, columns = (
        _starts(n, size, size // 2, step) for (n, size), step in zip(_sides(grid, window), steps, strict=True)
    )
    tops, lefts = torch.meshgrid(rows, columns, indexing="ij")
    own_rows, own_columns = _own(tops, lefts)
    return torch.stack([tops, lefts, own_rows, own_columns], dim=-1)


class WindowRead(NamedTuple):
    """What has to be read before one token of a large grid can be drawn."""

    num_before: int
    """Tokens before it in its window."""
    is_new: bool
    """Whether they have to be read again: the window moved, or more than one of them is new to it."""


def window_reads(
    grid: tuple[int, int], window: tuple[int, int], steps: tuple[int, int] = (1, 1)
) -> Iterator[WindowRead]:
    """What a cache saves: for each token of the grid, row by row, whether the window stands where it stood.

    Args: as `sliding_windows`, which also says what is raised.
    """
    last: tuple[int, int, int] | None = None
    for top, left, own_row, own_column in sliding_windows(grid, window, steps).flatten(0, 1).tolist():
        num_before = own_row * window[1] + own_column
        yield WindowRead(num_before, is_new=last != (top, left, num_before - 1))
        last = (top, left, num_before)


def scene_windows(grid: tuple[int, int], window: tuple[int, int]) -> Int[Tensor, "H W 3"]:
    """Top, left, and the number of the window's tokens before the token, for each token of the grid.

    Args:
        grid: (H, W).
        window: (h, w), which the prior was trained on.

    Raises:
        ValueError: the window does not fit into the grid.
    """
    rows, columns = (_starts(n, size, (size - 1) // 2) for n, size in _sides(grid, window))
    tops, lefts = torch.meshgrid(rows, columns, indexing="ij")
    own_rows, own_columns = _own(tops, lefts)
    return torch.stack([tops, lefts, own_rows * window[1] + own_columns], dim=-1)


def _sides(grid: tuple[int, int], window: tuple[int, int]) -> list[tuple[int, int]]:
    sides = list(zip(grid, window, strict=True))
    if any(n < size for n, size in sides):
        raise ValueError(
            f"a window of {window[0]} x {window[1]} does not fit into a grid of {grid[0]} x {grid[1]}: the grid must "
            "be at least as large as the one that the prior was trained on"
        )
    return sides


def _starts(length: int, size: int, middle: int, step: int = 1) -> Int[Tensor, " length"]:
    """Where the window of each index starts: `middle` before it or up to a step earlier, but inside of the grid."""
    assert length % step == size % step == 0
    index = torch.arange(length)
    earliest = -((size - 1 - index) // step) * step  # the first one whose window still has the index
    return torch.maximum((index - middle) // step * step, earliest).clamp(0, length - size)


def _own(tops: Int[Tensor, "H W"], lefts: Int[Tensor, "H W"]) -> tuple[Int[Tensor, "H W"], Int[Tensor, "H W"]]:
    height, width = tops.shape
    return torch.arange(height)[:, None] - tops, torch.arange(width)[None, :] - lefts
