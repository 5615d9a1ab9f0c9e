"""Grids larger than the prior's: windows cover them, and a cache changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.vqgan_core.prior.test_reading_orders import SPEC, make_prior
from vqgan_core.config import SamplingConfig
from vqgan_core.prior import Prior, sample_large, sample_tokens
from vqgan_core.prior.coordinates import coordinate_ramp, coordinate_tokens
from vqgan_core.prior.windows import scene_windows, sliding_windows

LABELS = torch.tensor([0, 1, 2, 1])
GREEDY = SamplingConfig(temperature=0)
SIDE = st.integers(1, 12)


@given(height=SIDE, width=SIDE, more_rows=SIDE, more_columns=SIDE)
def test_every_token_is_in_its_window_and_every_window_in_the_grid(
    height: int, width: int, more_rows: int, more_columns: int
) -> None:
    grid = (height + more_rows - 1, width + more_columns - 1)
    plan = sliding_windows(grid, (height, width))
    tops, lefts, own_rows, own_columns = plan.unbind(-1)
    assert torch.equal(tops + own_rows, torch.arange(grid[0])[:, None].expand(grid))
    assert torch.equal(lefts + own_columns, torch.arange(grid[1])[None].expand(grid))
    assert tops.min() == lefts.min() == 0
    assert (int(tops.max()), int(lefts.max())) == (grid[0] - height, grid[1] - width)
    assert int(own_rows.max()) < height
    assert int(own_columns.max()) < width
    scene = scene_windows(grid, (height, width))
    assert int(scene[..., 2].min()) >= 0
    assert int(scene[..., 2].max()) == height * width - 1


@torch.no_grad()
def drawn_without_a_cache(prior: Prior, grid: tuple[int, int], guidance: float) -> Tensor:
    """Greedy tokens as the original draws them: a full forward pass over the whole window for each."""
    tokens = torch.zeros(4, *grid, dtype=torch.int64)
    hidden = torch.ones(4, dtype=torch.bool)
    plan = sliding_windows(grid, (SPEC.height, SPEC.width))
    for row in range(grid[0]):
        for column in range(grid[1]):
            top, left, own_row, own_column = plan[row, column].tolist()
            view = tokens[:, top : top + SPEC.height, left : left + SPEC.width].flatten(1)
            told, untold = prior(view, LABELS), prior(view, LABELS, hidden)
            guided = untold + guidance * (told - untold)
            tokens[:, row, column] = guided[:, own_row * SPEC.width + own_column].argmax(-1)
    return tokens


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
@pytest.mark.parametrize(("grid", "guidance"), [((5, 9), 1.0), ((3, 10), 2.0), ((7, 4), 1.0)])
def test_large_grids_are_those_of_full_windows(architecture: str, grid: tuple[int, int], guidance: float) -> None:
    prior = make_prior("row", architecture)
    large = sample_large(prior, LABELS, range(4), SamplingConfig(temperature=0, guidance=guidance), grid)
    assert torch.equal(large, drawn_without_a_cache(prior, grid, guidance))


def test_a_grid_of_the_priors_own_size_is_an_ordinary_sample() -> None:
    prior, config = make_prior("row"), SamplingConfig(guidance=2.0, top_p=0.9)
    large = sample_large(prior, LABELS, range(4), config, (SPEC.height, SPEC.width))
    assert torch.equal(large.flatten(1), sample_tokens(prior, LABELS, range(4), config))


def test_an_image_does_not_depend_on_its_batch() -> None:
    prior, rows = make_prior("row"), list[tuple[int, int]]()
    batch = sample_large(prior, LABELS, [5, 6, 7, 8], SamplingConfig(), (5, 6), lambda *done: rows.append(done))
    assert torch.equal(sample_large(prior, LABELS[2:3], [7], SamplingConfig(), (5, 6))[0], batch[2])
    assert rows == [(row, 5) for row in range(1, 6)]


def test_unconditional_priors_draw_large_grids_too() -> None:
    prior = make_prior("row", condition="none")
    images = sample_large(prior, None, range(3), SamplingConfig(), (4, 8))
    assert images.shape == (3, 4, 8)
    assert len(images.flatten(1).unique(dim=0)) == 3


def test_coordinates_of_a_window_are_a_crop_of_the_whole_images() -> None:
    ramp = coordinate_ramp(16, 24)
    whole = coordinate_tokens(ramp, 4, 100)
    assert torch.equal(coordinate_tokens(ramp[:, :, 4:12, 8:20], 4, 100), whole[:, 1:3, 2:5])
    assert coordinate_tokens(torch.tensor([-1.0, 1.0, 7.0]).view(3, 1, 1, 1), 1, 8).flatten().tolist() == [0, 7, 7]


def test_what_a_caller_can_do_wrong() -> None:
    with pytest.raises(ValueError, match="window of 3 x 4 does not fit into a grid of 2 x 9"):
        sample_large(make_prior("row"), LABELS, range(4), GREEDY, (2, 9))
    with pytest.raises(ValueError, match="order z_curve: windows slide over priors of order row"):
        sample_large(make_prior("z_curve"), LABELS, range(4), GREEDY, (4, 4))
    with pytest.raises(ValueError, match="no seeds"):
        sample_large(make_prior("row"), LABELS[:0], [], GREEDY, (4, 4))
    with pytest.raises(ValueError, match="6 x 8 do not divide into cells of 4 x 4"):
        coordinate_tokens(coordinate_ramp(6, 8), 4, 10)
