"""Windows over large images are told their own part of a map, and all of a layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, sample_large, sample_tokens
from vqgan_core.prior.coordinates import coordinate_ramp, coordinate_tokens
from vqgan_core.prior.windows import sliding_windows

HEIGHT, WIDTH, CODES = 2, 4, 7
GREEDY = SamplingConfig(temperature=0)


def make_prior(**columns: tuple[int, int]) -> Prior:
    told = [{"name": name, "codebook_size": 9, "height": h, "width": w} for name, (h, w) in columns.items()]
    spec = {"codebook_size": CODES, "height": HEIGHT, "width": WIDTH, "columns": told}
    config: dict[str, Any] = {"condition": "none", "condition_columns": list(columns), "width": 16}
    torch.manual_seed(0)
    prior = Prior(
        PriorConfig.model_validate({**config, "num_layers": 1, "num_heads": 2}), TokenSpec.model_validate(spec)
    )
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior.eval()


def drawn(*shape: int) -> Tensor:
    return torch.randint(9, shape, generator=torch.Generator().manual_seed(len(shape)))


@torch.no_grad()
def drawn_without_a_cache(prior: Prior, grid: tuple[int, int], steps: tuple[int, int], **given: Tensor) -> Tensor:
    """Each token from a full forward pass over its window and that window's part of the condition."""
    tokens = torch.zeros(3, *grid, dtype=torch.int64)
    plan = sliding_windows(grid, (HEIGHT, WIDTH), steps)
    for row in range(grid[0]):
        for column in range(grid[1]):
            top, left, own_row, own_column = plan[row, column].tolist()
            told = {}
            for about in prior.spec.columns:
                whole = given[about.name]
                if whole.ndim == 3:
                    y, x = top * about.height // HEIGHT, left * about.width // WIDTH
                    whole = whole[:, y : y + about.height, x : x + about.width].flatten(1)
                told[about.name] = whole
            view = tokens[:, top : top + HEIGHT, left : left + WIDTH].flatten(1)
            tokens[:, row, column] = prior(view, columns=told)[:, own_row * WIDTH + own_column].argmax(-1)
    return tokens


@pytest.mark.parametrize(("size", "steps"), [((2, 4), (1, 1)), ((4, 8), (1, 1)), ((1, 2), (2, 2)), ((2, 1), (1, 4))])
def test_a_map_is_cut_to_each_window(size: tuple[int, int], steps: tuple[int, int]) -> None:
    prior, grid = make_prior(map=size, boxes=(1, 3)), (6, 8)
    given = {"map": drawn(3, grid[0] * size[0] // HEIGHT, grid[1] * size[1] // WIDTH), "boxes": drawn(3, 3)}
    large = sample_large(prior, None, range(3), GREEDY, grid, columns=given)
    assert torch.equal(large, drawn_without_a_cache(prior, grid, steps, **given))


def test_windows_that_start_at_multiples_cover_every_token() -> None:
    plan = sliding_windows((12, 8), (4, 8), (4, 2))
    tops, lefts, own_rows, own_columns = plan.unbind(-1)
    assert set((tops % 4).flatten().tolist()) == {0}
    assert 0 <= int(own_rows.min()) <= int(own_rows.max()) < 4
    assert torch.equal(tops + own_rows, torch.arange(12)[:, None].expand(12, 8))
    assert torch.equal(lefts + own_columns, torch.arange(8)[None].expand(12, 8))


def test_a_grid_of_the_priors_own_size_is_an_ordinary_sample() -> None:
    prior, given, config = make_prior(map=(2, 4)), drawn(3, 2, 4), SamplingConfig(guidance=3, top_k=5)
    large = sample_large(prior, None, range(3), config, (HEIGHT, WIDTH), columns={"map": given})
    assert torch.equal(
        large.flatten(1), sample_tokens(prior, None, range(3), config, columns={"map": given.flatten(1)})
    )


def test_coordinates_slide_as_those_of_the_whole_image() -> None:
    prior, grid = make_prior(coordinates=(2, 4)), (4, 8)
    whole = coordinate_tokens(coordinate_ramp(16, 32), 4, 9)
    large = sample_large(prior, None, range(3), GREEDY, grid, columns={"coordinates": whole.expand(3, -1, -1)})
    assert torch.equal(large, drawn_without_a_cache(prior, grid, (1, 1), coordinates=whole.expand(3, -1, -1)))


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="column map of 6 x 9 tokens for a grid of 6 x 8: this prior was told 2 x 4"):
        sample_large(make_prior(map=(2, 4)), None, range(3), GREEDY, (6, 8), columns={"map": drawn(3, 6, 9)})
    with pytest.raises(ValueError, match="this prior is told the tokens of column map"):
        sample_large(make_prior(map=(2, 4)), None, range(3), GREEDY, (6, 8))
