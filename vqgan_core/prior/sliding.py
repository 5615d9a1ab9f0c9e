"""Drawing grids that are larger than the one a prior was trained on, token by token in a window that slides along.

Axes: B images, R rows (B, or with guidance 2B), H×W the large grid, h×w the prior's.

Source: arXiv 2012.09841 §3.3; the window of each token is `windows.sliding_windows`, as in the original's scripts.

A condition column that has a grid is cut to the window, as the original does with segmentation maps and coordinates.

Departures: many images at once, unconditional and class-conditional priors too, condition grids that are coarser or
finer than the tokens', and a cache. As long as the window
stands still, its keys and values go on (exact: the same tokens at the same positions); where it moves, the tokens
before the new one, about half a window, are read at once. Near the left and right borders it stands still for half a
window; a grid of the prior's own size is drawn just as `sample_tokens` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.guidance import guidance_scale, guide
from vqgan_core.prior.model import Prior
from vqgan_core.prior.noise import ImageStreams
from vqgan_core.prior.packed import for_drawing
from vqgan_core.prior.sampling import Progress, draw, starting_rows
from vqgan_core.prior.windows import sliding_windows

Corner = tuple[int, int]
"""Top and left of a window."""


@torch.no_grad()
def sample_large(
    prior: Prior,
    labels: Int[Tensor, " B"] | None,
    seeds: Sequence[int] | Int[Tensor, " B"],
    config: SamplingConfig,
    grid: tuple[int, int],
    progress: Progress | None = None,
    columns: Mapping[str, Tensor] | None = None,
) -> Int[Tensor, "B H W"]:
    """Draw one large grid for each seed, with dropout off.

    Args:
        prior: of order row; the tokens come back on its device.
        labels: one an image for a class-conditional prior, else None.
        seeds: one an image.
        config: temperature, filters, guidance, precision; a guidance schedule runs over each window.
        grid: (H, W), at least the prior's own.
        progress: told about each row of tokens.
        columns: for each condition column either the large image's own tokens, `B H' W'` with as many for each of the
            image's as in training, which are cut to windows; or tokens `B M` that every window is told.

    Raises:
        ValueError: a grid that is too small, a prior with another order, a column whose grid does not fit, or as
            `sample_tokens`.
    """
    if prior.config.order != "row":
        raise ValueError(f"this prior reads in the order {prior.config.order}: windows slide over priors of order row")
    told = _Told(prior, grid, columns or {})
    plan = sliding_windows(grid, (prior.spec.height, prior.spec.width), told.steps).tolist()
    streams = ImageStreams(seeds, prior.device)
    window = _Window(
        prior,
        lambda corner: starting_rows(prior, labels, len(streams), config.guidance, told.cut(corner)),
        config,
    )
    tokens = torch.zeros(len(streams), *grid, dtype=torch.int64, device=prior.device)
    for row in range(grid[0]):
        for column in range(grid[1]):
            top, left, own_row, own_column = plan[row][column]
            step = own_row * prior.spec.width + own_column
            logits = window.logits(tokens, (top, left), step)
            scale = guidance_scale(config, step, prior.spec.num_tokens)
            guided = guide(logits.float(), len(streams), scale)
            tokens[:, row, column] = draw(guided, config, streams, row * grid[1] + column)
        if progress is not None:
            progress(row + 1, grid[0])
    return tokens


class _Told:
    """The condition columns of large images, window by window."""

    def __init__(self, prior: Prior, grid: tuple[int, int], columns: Mapping[str, Tensor]) -> None:
        self._columns = columns
        self._window = (prior.spec.height, prior.spec.width)
        self._sizes = {column.name: (column.height, column.width) for column in prior.spec.columns}
        self.steps = (1, 1)
        """Cells between the places where a window can start, so that every column can be cut there."""
        for name, tokens in columns.items():
            if name in self._sizes and tokens.ndim == 3:  # whatever else is given is judged with the prior's condition
                steps = self._steps(name, grid, tuple(tokens.shape[1:]))
                self.steps = (math.lcm(self.steps[0], steps[0]), math.lcm(self.steps[1], steps[1]))

    def cut(self, corner: Corner) -> dict[str, Int[Tensor, "B M"]]:
        """What the window at this top left corner is told."""
        found = dict(self._columns)
        for name, tokens in self._columns.items():
            if tokens.ndim == 3:
                (top, bottom), (left, right) = (
                    (start * own // size, start * own // size + own)
                    for start, own, size in zip(corner, self._sizes[name], self._window, strict=True)
                )
                found[name] = tokens[:, top:bottom, left:right].flatten(1)
        return found

    def _steps(self, name: str, grid: tuple[int, int], given: tuple[int, ...]) -> tuple[int, int]:
        own, window = self._sizes[name], self._window
        sides = list(zip(given, own, grid, window, strict=True))
        if any(
            there * size != mine * length or max(mine, size) % min(mine, size) for there, mine, length, size in sides
        ):
            raise ValueError(
                f"column {name} of {given[0]} x {given[1]} tokens for a grid of {grid[0]} x {grid[1]}: this prior was "
                f"told {own[0]} x {own[1]} for {window[0]} x {window[1]}; give as many for each, in whole numbers"
            )
        rows, columns = (max(1, size // mine) for _, mine, _, size in sides)
        return rows, columns


class _Window:
    """A prior's view on a grid: logits of a token given those before it in its window."""

    def __init__(
        self, prior: Prior, prefix_at: Callable[[Corner], Float[Tensor, "R P D"]], config: SamplingConfig
    ) -> None:
        self._prior = prior
        self._prefix_at = prefix_at
        self._num_rows = len(prefix_at((0, 0)))
        self._network = for_drawing(prior.transformer, self._num_rows, config)
        self._cache = self._network.new_cache(self._num_rows, max_length=prior.max_length)
        self._corner: Corner | None = None

    def logits(self, grid: Int[Tensor, "B H W"], corner: Corner, num_before: int) -> Float[Tensor, "R K"]:
        """Logits of the token with so many tokens before it in the window at this top left corner."""
        spec, (top, left) = self._prior.spec, corner
        view = grid[:, top : top + spec.height, left : left + spec.width].flatten(1)
        num_read = self._cache.length - self._prior.num_prefix
        if corner == self._corner and num_before == num_read + 1:  # all but the newest token
            given, prefix = view[:, num_before - 1 : num_before], None
        else:
            self._cache.reset()
            given, prefix = view[:, :num_before], self._prefix_at(corner)
        self._corner = corner
        given = given.repeat(self._num_rows // len(grid), 1)
        logits: Tensor = self._network(given, prefix, self._cache, num_last=1)
        return logits[:, -1]
