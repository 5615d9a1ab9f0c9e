"""What convolutional priors share: a grid of tokens in, logits of each cell out, with a cache or without.

Axes: B batch, P prefix embeddings, M tokens, N = H·W cells, D width, V vocabulary, L logits.

They stand where a transformer stands (`Decoder`) and are trained, scored and sampled by the same code. What is told
first is no part of a sequence here: the class, the cell's own row and column, and the tokens of condition columns,
spread over the grid, are a map that every layer sees; it may see all of it, because it is known before the first token.
So VQ-VAE-2's bottom prior is one whose condition column is the top grid (arXiv 1906.00446, §3.2).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan_core.prior.decoder import Placement, init_weights
from vqgan_core.prior.tape import Tape, pointwise

__all__ = ["PixelCache", "PixelDecoder", "PixelShape"]


class PixelCache:
    """What was read so far; `length` counts the condition's elements, too, as a transformer's cache does."""

    def __init__(self, batch_size: int, max_length: int, width: int) -> None:
        self.batch_size = batch_size
        self.max_length = max_length
        self.length = 0
        self.num_tokens = 0
        self.tape = Tape(width)
        self.condition: Tensor | None = None

    def select(self, rows: Int[Tensor, " B"]) -> None:
        """Let each row go on with the past of another: row i with that of rows[i]."""
        self.tape.select(rows)
        assert self.condition is not None
        self.condition = self.condition[rows]

    def reset(self) -> None:
        """Forget everything, for the next batch of the same shape."""
        self.length = self.num_tokens = 0
        self.condition = None
        self.tape.clear()


@dataclass(frozen=True)
class PixelShape:
    """What a convolutional prior reads, and how wide it is."""

    vocabulary_size: int
    """V."""
    grid: tuple[int, int]
    """(H, W)."""
    width: int
    """D, channels of every map."""
    has_class: bool = True
    """Whether the first element of the prefix is a class, or a start."""
    columns: tuple[tuple[int, int], ...] = ()
    """Grids of the condition columns, whose tokens follow in the prefix."""


class PixelDecoder(nn.Module):
    """Base of the convolutional priors: embedding, condition map, head. The layers between are each one's own."""

    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""

    def __init__(self, shape: PixelShape) -> None:
        super().__init__()
        width, grid, vocabulary_size = shape.width, shape.grid, shape.vocabulary_size
        self.grid = grid
        self.has_class = shape.has_class
        self.columns = shape.columns
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.rows = nn.Parameter(torch.zeros(1, width, grid[0], 1))
        self.cells = nn.Parameter(torch.zeros(1, width, 1, grid[1]))
        # A column is seen through a window of its own grid's scale: neighbours in it bear on a cell, too.
        self.spread = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ELU(), pointwise(width, width))
            for _ in shape.columns
        )
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.apply(init_weights)
        nn.init.zeros_(self.head.weight)

    @abstractmethod
    def features(
        self, x: Float[Tensor, "B D n m"], condition: Float[Tensor, "B D n m"], tape: Tape | None
    ) -> Float[Tensor, "B D n m"]:
        """From embedded tokens to what predicts each cell, which depends on the cells before it alone.

        Args:
            x: the whole grid; at a step, the token of the cell before the present one.
            condition: the map of what is told; at a step, the whole of it all the same.
            tape: of earlier steps; None: nothing is remembered.
        """

    @property
    def num_prefix(self) -> int:
        """P."""
        return self.has_class + sum(height * width for height, width in self.columns)

    @property
    def max_length(self) -> int:
        """Positions that a cache needs: the condition, and all tokens but the last."""
        return self.num_prefix + self.grid[0] * self.grid[1] - 1

    def new_cache(self, batch_size: int, max_length: int | None = None) -> PixelCache:
        """An empty cache for a batch."""
        return PixelCache(batch_size, self.max_length if max_length is None else max_length, self.grid[1])

    def forward(
        self,
        tokens: Int[Tensor, "B M"],
        prefix: Float[Tensor, "B P D"] | None = None,
        cache: PixelCache | None = None,
        placement: Placement | None = None,
        num_last: int | None = None,
    ) -> Float[Tensor, "B L V"]:
        """Logits of the cells after each of the given tokens, and of the first cell where the prefix is given.

        Args:
            tokens: the first M cells, row by row; with a cache that is not empty, those that follow.
            prefix: what is told; needed at the first call.
            cache: with it, only new tokens are given; it is extended by them. Not for training.
            placement: which elements are hidden; these priors take no other order.
            num_last: L, of how many cells logits are wanted; None: all that there are.

        Raises:
            ValueError: more tokens than cells, a prefix that is missing or comes late, or gradients through a cache.
        """
        if cache is not None and torch.is_grad_enabled():
            raise ValueError("a cache is written in place and carries no gradients: call under torch.no_grad()")
        read = 0 if cache is None else cache.num_tokens
        if (prefix is None) == (cache is None or cache.length == 0):
            raise ValueError("a convolutional prior is told its condition at the first call, and only there")
        if read + tokens.shape[1] >= self.grid[0] * self.grid[1]:
            raise ValueError(
                f"{read + tokens.shape[1]} tokens given to a prior of {self.grid[0]} x {self.grid[1]} cells: the last "
                "one predicts nothing"
            )
        if prefix is not None:
            hidden = None if placement is None or placement.hidden is None else placement.hidden[:, self.num_prefix :]
            x = self._whole(tokens, prefix, cache, hidden)
        else:
            assert cache is not None
            steps = [self._step(tokens[:, i : i + 1], cache) for i in range(tokens.shape[1])]
            x = torch.cat(steps, dim=1)
        logits: Tensor = self.head(x if num_last is None else x[:, -num_last:])
        return logits

    def _whole(
        self, tokens: Tensor, prefix: Tensor, cache: PixelCache | None, hidden: Bool[Tensor, "R M"] | None
    ) -> Float[Tensor, "B L D"]:
        """All cells at once: those after the given tokens see zeros, and are cut off."""
        embedded: Tensor = self.token_embedding(tokens)
        if hidden is not None:
            embedded = embedded.masked_fill(hidden[..., None], 0)
        num_cells = self.grid[0] * self.grid[1]
        padded = F.pad(embedded, (0, 0, 0, num_cells - tokens.shape[1]))
        condition = self._condition_map(prefix)
        if cache is not None:
            cache.condition = condition
            cache.num_tokens, cache.length = tokens.shape[1], self.num_prefix + tokens.shape[1]
        whole = rearrange(padded, "B (H W) D -> B D H W", W=self.grid[1])
        x = self.features(whole, condition, None if cache is None else cache.tape)
        return rearrange(x, "B D H W -> B (H W) D")[:, : tokens.shape[1] + 1]

    def _step(self, token: Int[Tensor, "B 1"], cache: PixelCache) -> Float[Tensor, "B 1 D"]:
        """The cell after a token that follows those that were read."""
        assert cache.condition is not None
        previous = divmod(cache.num_tokens, self.grid[1])
        cache.num_tokens += 1
        cache.length += 1
        cache.tape.previous, cache.tape.cell = previous, divmod(cache.num_tokens, self.grid[1])
        embedded = self.token_embedding(token).transpose(1, 2)[..., None]
        x = self.features(embedded, cache.condition, cache.tape)
        return x[..., 0].transpose(1, 2)

    def _condition_map(self, prefix: Float[Tensor, "B P D"]) -> Float[Tensor, "B D H W"]:
        """Class, place, and condition columns, for each cell."""
        told = (self.rows + self.cells).to(prefix.dtype)
        if self.has_class:
            told = told + prefix[:, 0, :, None, None]
        start = int(self.has_class)
        for (height, width), spread in zip(self.columns, self.spread, strict=True):
            part = prefix[:, start : start + height * width]
            start += height * width
            grid = rearrange(part, "B (h w) D -> B D h w", w=width)
            told = told + F.interpolate(spread(grid), size=self.grid, mode="nearest-exact")
        return told.expand(len(prefix), -1, -1, -1)


def at_cell(condition: Float[Tensor, "B D H W"], tape: Tape | None) -> Float[Tensor, "B D n m"]:
    """The map where it is needed: everywhere, or at the present cell."""
    if tape is None or tape.cell is None:
        return condition
    row, column = tape.cell
    return condition[:, :, row : row + 1, column : column + 1]
