"""Orders in which a prior reads a grid: permutations of its cells.

Axes: H×W grid, N = H·W cells, B batch. An order is the list of raster cells (row · W + column) as they are visited:
`tokens[:, order]` is the sequence, `sequence[:, inverse(order)]` the raster grid again.

Sources: arXiv 2012.09841 §4.3 (the seven orders, whose permutations on the original's grids are its); random orders for
each record, Yu et al. 2024 (RAR, arXiv 2411.00776).

Departures: every order takes every grid. The original's spirals need an even square; its z-curve and subsampling need a
power of two, and give cells outside of the grid for 16×8 or 12×12. Here cells are sorted by the key that defines the
order, so it stays a permutation where the grid has no such symmetry. Random orders are drawn for the whole batch at
once, by sorting random keys; RAR's code loops over records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vqgan_core.config import OrderName

Cells = NDArray[np.int64]


def token_order(name: OrderName, height: int, width: int, seed: int = 1) -> Int[Tensor, " N"]:
    """The cells of a grid as an order visits them, on the CPU; random_annealed ends as row.

    Args:
        name: which order.
        height: H.
        width: W.
        seed: which permutation `random` is; 1 is the original's.

    Raises:
        ValueError: an unknown name, or a grid without cells.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a grid of {height} x {width} has no cells: both sides must be at least 1")
    if name in ("random", "random_annealed"):
        cells = np.arange(height * width)
        order = np.random.RandomState(seed).permutation(cells) if name == "random" else cells
    elif name in _ORDERS:
        order = _ORDERS[name](*np.divmod(np.arange(height * width), width), height, width)
    else:
        raise ValueError(f"order {name!r}: choose one of {', '.join(order_names())}")
    return torch.tensor(order.copy(), dtype=torch.int64, device="cpu")


def order_names() -> tuple[str, ...]:
    """Every order there is."""
    return (*_ORDERS, "random", "random_annealed")


def name_of(order: Int[Tensor, " N"], height: int, width: int) -> OrderName | None:
    """Which fixed order (with the default seed) visits the grid's cells like this; None: none of ours."""
    for name in (*_ORDERS, "random"):
        if torch.equal(token_order(name, height, width), order.to("cpu", torch.int64)):
            return name
    return None


def inverse(order: Int[Tensor, "*B N"]) -> Int[Tensor, "*B N"]:
    """When each raster cell is visited; for one order or one for each row."""
    return order.argsort(dim=-1)


def random_orders(
    batch_size: int, num_tokens: int, probability: float, generator: torch.Generator
) -> Int[Tensor, "B N"]:
    """An order for each record: a uniformly random one with this probability, else row by row.

    The stream moves alike whatever the probability is, so a schedule of it leaves all later draws as they are.
    """
    keys: Float[Tensor, "B N"] = torch.rand(batch_size, num_tokens, generator=generator, dtype=torch.float64)
    is_random: Bool[Tensor, "B 1"] = torch.rand(batch_size, 1, generator=generator) < probability
    return torch.where(is_random, keys.argsort(dim=-1), torch.arange(num_tokens))


def known_first_orders(known: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """An order for each record that reads its known cells and then the others, both row by row."""
    return (~known).to(torch.int8).argsort(dim=-1, stable=True)


def _row(rows: Cells, columns: Cells, _height: int, width: int) -> Cells:
    return rows * width + columns


def _column(rows: Cells, columns: Cells, _height: int, _width: int) -> Cells:
    return np.lexsort((rows, columns))


def _alternate(rows: Cells, columns: Cells, _height: int, width: int) -> Cells:
    """Left to right, then right to left: neighbours in the sequence are neighbours in the image."""
    return rows * width + np.where(rows % 2, width - 1 - columns, columns)


def _z_curve(rows: Cells, columns: Cells, _height: int, _width: int) -> Cells:
    """Quadrant by quadrant, recursively: cells by Morton number, the bits of row and column in turn."""
    return np.lexsort(_bit_planes(rows, columns, range(_num_bits(rows, columns))))


def _subsample(rows: Cells, columns: Cells, _height: int, _width: int) -> Cells:
    """Coarse to fine: every second row and column, recursively. The z-curve with the lowest bits deciding first."""
    return np.lexsort(_bit_planes(rows, columns, reversed(range(_num_bits(rows, columns)))))


def _spiral_in(rows: Cells, columns: Cells, height: int, width: int) -> Cells:
    """From the bottom right corner up and around, ring by ring, to the middle."""
    ring = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    top, left, bottom, right = ring, ring, height - 1 - ring, width - 1 - ring
    tall, wide = bottom - top, right - left
    # Steps along the ring from its bottom right corner: up, left, down, right. The first side that has the cell counts.
    step = np.select(
        [columns == right, rows == top, columns == left],
        [bottom - rows, tall + right - columns, tall + wide + rows - top],
        default=2 * tall + wide + columns - left,
    )
    return np.lexsort((step, ring))


def _spiral_out(rows: Cells, columns: Cells, height: int, width: int) -> Cells:
    return _spiral_in(rows, columns, height, width)[::-1]


def _num_bits(rows: Cells, columns: Cells) -> int:
    return max(int(max(rows.max(), columns.max())).bit_length(), 1)


def _bit_planes(rows: Cells, columns: Cells, bits: Iterable[int]) -> list[Cells]:
    """These bits of column and row, as sort keys: the last decides first."""
    return [axis >> bit & 1 for bit in bits for axis in (columns, rows)]


_ORDERS: dict[OrderName, Callable[[Cells, Cells, int, int], Cells]] = {
    "row": _row,
    "column": _column,
    "spiral_in": _spiral_in,
    "spiral_out": _spiral_out,
    "z_curve": _z_curve,
    "subsample": _subsample,
    "alternate": _alternate,
}
