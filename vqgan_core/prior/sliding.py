"""Drawing grids that are larger than the one a prior was trained on, token by token in a window that slides along.

Axes: B images, R rows (B, or with guidance 2B), H×W the large grid, h×w the prior's.

Source: arXiv 2012.09841 §3.3; the window of each token is `windows.sliding_windows`, as in the original's scripts.

Departures: many images at once, unconditional and class-conditional priors too, and a cache. As long as the window
stands still, its keys and values go on (exact: the same tokens at the same positions); where it moves, the tokens
before the new one, about half a window, are read at once. Near the left and right borders it stands still for half a
window; a grid of the prior's own size is drawn just as `sample_tokens` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.guidance import guidance_scale, guide
from vqgan_core.prior.model import Prior
from vqgan_core.prior.noise import ImageStreams
from vqgan_core.prior.sampling import Progress, draw, evaluating, starting_rows
from vqgan_core.prior.windows import sliding_windows


@torch.no_grad()
def sample_large(
    prior: Prior,
    labels: Int[Tensor, " B"] | None,
    seeds: Sequence[int] | Int[Tensor, " B"],
    config: SamplingConfig,
    grid: tuple[int, int],
    progress: Progress | None = None,
) -> Int[Tensor, "B H W"]:
    """Draw one large grid for each seed, with dropout off.

    Args:
        prior: of order row; the tokens come back on its device.
        labels: one an image for a conditional prior, else None.
        seeds: one an image.
        config: temperature, filters, guidance; a guidance schedule runs over each window.
        grid: (H, W), at least the prior's own.
        progress: told about each row of tokens.

    Raises:
        ValueError: a grid that is too small, a prior with another order, or as `sample_tokens`.
    """
    if prior.config.order != "row":
        raise ValueError(f"this prior reads in the order {prior.config.order}: windows slide over priors of order row")
    plan = sliding_windows(grid, (prior.spec.height, prior.spec.width)).tolist()
    streams = ImageStreams(seeds, prior.device)
    window = _Window(prior, starting_rows(prior, labels, len(streams), config.guidance))
    tokens = torch.zeros(len(streams), *grid, dtype=torch.int64, device=prior.device)
    with evaluating(prior):
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


class _Window:
    """A prior's view on a grid: logits of a token given those before it in its window."""

    def __init__(self, prior: Prior, prefix: Float[Tensor, "R P D"]) -> None:
        self._prior = prior
        self._prefix = prefix
        self._cache = prior.transformer.new_cache(len(prefix), max_length=prior.max_length)
        self._corner: tuple[int, int] | None = None

    def logits(self, grid: Int[Tensor, "B H W"], corner: tuple[int, int], num_before: int) -> Float[Tensor, "R K"]:
        """Logits of the token with so many tokens before it in the window at this top left corner."""
        spec, (top, left) = self._prior.spec, corner
        view = grid[:, top : top + spec.height, left : left + spec.width].flatten(1)
        num_read = self._cache.length - self._prior.num_prefix
        if corner == self._corner and num_before == num_read + 1:  # all but the newest token
            given, prefix = view[:, num_before - 1 : num_before], None
        else:
            self._cache.reset()
            given, prefix = view[:, :num_before], self._prefix
        self._corner = corner
        given = given.repeat(len(self._prefix) // len(grid), 1)
        logits: Tensor = self._prior.transformer(given, prefix, self._cache, num_last=1)
        return logits[:, -1]
