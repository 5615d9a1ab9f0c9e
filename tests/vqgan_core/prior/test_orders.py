"""Orders are permutations of any grid, with the property that each is named after."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vqgan_core.prior.orders import inverse, known_first_orders, name_of, order_names, random_orders, token_order

SIDES = st.integers(1, 20)


def order_of(name: Any, height: int, width: int) -> list[tuple[int, int]]:
    return [divmod(cell, width) for cell in token_order(name, height, width).tolist()]


@given(name=st.sampled_from(order_names()), height=SIDES, width=SIDES)
def test_every_order_is_a_permutation_of_every_grid(name: Any, height: int, width: int) -> None:
    order = token_order(name, height, width)
    cells = torch.arange(height * width)
    assert torch.equal(order.sort().values, cells)
    assert torch.equal(cells[order][inverse(order)], cells)


@given(name=st.sampled_from(["alternate", "spiral_in", "spiral_out"]), height=SIDES, width=SIDES)
def test_orders_that_never_jump(name: str, height: int, width: int) -> None:
    path = order_of(name, height, width)
    steps = [abs(a - c) + abs(b - d) for (a, b), (c, d) in itertools.pairwise(path)]
    assert set(steps) <= {1}


@pytest.mark.parametrize(("height", "width"), [(16, 8), (12, 12), (4, 4), (8, 32)])
def test_the_z_curve_finishes_each_quadrant_before_the_next(height: int, width: int) -> None:
    """16×8 and 12×12 have cells outside of the grid in the original."""
    quads = [(row // 4, column // 4) for row, column in order_of("z_curve", height, width)]
    assert [len(set(quads[start : start + 16])) for start in range(0, len(quads), 16)] == [1] * (len(quads) // 16)


@pytest.mark.parametrize(("height", "width"), [(16, 8), (12, 12), (5, 7)])
def test_subsampling_goes_from_coarse_to_fine(height: int, width: int) -> None:
    path = order_of("subsample", height, width)
    coarse = [cell for cell in path if cell[0] % 4 == cell[1] % 4 == 0]
    even = [cell for cell in path if cell[0] % 2 == cell[1] % 2 == 0]
    assert path[: len(coarse)] == coarse
    assert path[: len(even)] == even


def test_small_grids_by_hand() -> None:
    assert token_order("column", 2, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert token_order("spiral_in", 3, 4).tolist() == [11, 7, 3, 2, 1, 0, 4, 8, 9, 10, 6, 5]
    assert token_order("z_curve", 3, 3).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]
    assert token_order("random_annealed", 2, 2).tolist() == [0, 1, 2, 3]


def test_the_seed_chooses_the_random_order_and_no_other() -> None:
    assert not torch.equal(token_order("random", 6, 6, 1), token_order("random", 6, 6, 2))
    assert torch.equal(token_order("random", 6, 6, 2), token_order("random", 6, 6, 2))
    assert torch.equal(token_order("z_curve", 6, 6, 1), token_order("z_curve", 6, 6, 2))


def test_an_order_is_recognised_or_not() -> None:
    assert name_of(token_order("subsample", 6, 9), 6, 9) == "subsample"
    assert name_of(token_order("random", 6, 9, seed=1), 6, 9) == "random"
    assert name_of(token_order("random", 6, 9, seed=5), 6, 9) is None
    assert name_of(token_order("row", 6, 9), 6, 8) is None


def draw(probability: float, batch_size: int = 2000, seed: int = 0) -> Tensor:
    return random_orders(batch_size, 6, probability, torch.Generator().manual_seed(seed))


def test_random_orders_are_uniform_permutations_of_the_share_asked_for() -> None:
    orders, raster = draw(1.0), torch.arange(6)
    assert torch.equal(orders.sort(dim=1).values, raster.expand(2000, 6))
    visits = torch.stack([orders[:, step].bincount(minlength=6) for step in range(6)]) / 2000
    torch.testing.assert_close(visits, torch.full((6, 6), 1 / 6), atol=0.04, rtol=0)
    shares = [float((draw(p) == raster).all(1).float().mean()) for p in (0.0, 0.25, 1.0)]
    assert shares == pytest.approx([1.0, 0.75 + 0.25 / 720, 1 / 720], abs=0.03)


def test_the_probability_moves_no_later_draw() -> None:
    after = []
    for probability in (0.0, 0.7, 1.0):
        generator = torch.Generator().manual_seed(0)
        random_orders(5, 7, probability, generator)
        after.append(float(torch.rand(1, generator=generator)))
    assert len(set(after)) == 1


def test_known_cells_come_first_and_stay_in_raster_order() -> None:
    known = torch.tensor([[False, True, False, True], [False] * 4, [True] * 4])
    assert known_first_orders(known).tolist() == [[1, 3, 0, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_what_a_caller_can_do_wrong() -> None:
    wrong: Any = "diagonal"
    with pytest.raises(ValueError, match="'diagonal': choose one of row, column"):
        token_order(wrong, 4, 4)
    with pytest.raises(ValueError, match="grid of 0 x 4 has no cells"):
        token_order("row", 0, 4)
