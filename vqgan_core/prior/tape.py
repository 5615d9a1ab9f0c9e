"""What a convolutional prior remembers of the cells it has read, so that a step costs one cell and not the whole grid.

Axes: B batch, C channels, H×W grid, h heads, d head width.

Everything is causal: what a layer computed at a cell never changes when later tokens become known. So the tape keeps
the input of each layer over the grid, and a step writes one cell of it and reads the window around. The first pass
records the whole grid at once; what it recorded of cells that were not known yet is written over before it is read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["CausalConvolution", "Tape"]


class Tape:
    """Maps of each layer; `cell` is the one that a step computes, None while the whole grid is recorded."""

    def __init__(self, width: int) -> None:
        self.width = width
        """W."""
        self.cell: tuple[int, int] | None = None
        self.previous: tuple[int, int] | None = None
        """The cell whose token has just become known."""
        self._maps: dict[nn.Module, Tensor] = {}

    def padded(self, layer: CausalConvolution, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """The window of a layer's input around the present cell, its newest value x written into it."""
        if self.cell is None:
            self._maps[layer] = F.pad(x, layer.padding)
            return self._maps[layer]
        row, column = self.cell
        self.write(layer, x)
        height, width = layer.kernel
        columns = slice(column, column + width) if x.shape[-1] == 1 else slice(None)
        return self._maps[layer][:, :, row : row + height, columns]

    def write(self, layer: CausalConvolution, x: Float[Tensor, "B C 1 n"]) -> None:
        """Put a cell, or a whole row, where it belongs in a layer's input."""
        at = self.previous if layer.is_shifted else self.cell
        if at is None:  # before the first cell there is no token
            return
        left, _, top, _ = layer.padding
        first = left + (at[1] if x.shape[-1] == 1 else 0)
        self._maps[layer][:, :, top + at[0], first : first + x.shape[-1]] = x[:, :, 0]

    def rows(self, layer: CausalConvolution) -> Float[Tensor, "B C h W"]:
        """All columns of the rows that a layer's present row sees."""
        assert self.cell is not None
        return self._maps[layer][:, :, self.cell[0] : self.cell[0] + layer.kernel[0]]

    def row(self, key: nn.Module, computed: Float[Tensor, "B C n W"] | None) -> Float[Tensor, "B C m k"]:
        """Something that is computed for a whole row at its first cell, and looked up at the others (None)."""
        if self.cell is None:
            assert computed is not None
            self._maps[key] = computed
            return computed
        row, column = self.cell
        if computed is not None:
            self._maps[key][:, :, row : row + 1] = computed
        return self._maps[key][:, :, row : row + 1, column : column + 1]

    def sequence(self, key: nn.Module, x: Float[Tensor, "B h n d"]) -> Float[Tensor, "B h m d"]:
        """Values of all cells up to the present one; the newest are written."""
        if self.cell is None:
            self._maps[key] = x.clone()
            return x
        end = self.cell[0] * self.width + self.cell[1] + 1
        self._maps[key][:, :, end - 1 : end] = x
        return self._maps[key][:, :, :end]

    def before(self, key: nn.Module, x: Float[Tensor, "B C n m"]) -> Float[Tensor, "B C n m"]:
        """A map where its tokens are known: at the cell before the present one, whose own value is kept for later."""
        if self.cell is None:
            self._maps[key] = x.clone()
            return x
        assert self.previous is not None
        kept, (row, column), (last_row, last_column) = self._maps[key], self.cell, self.previous
        kept[:, :, row : row + 1, column : column + 1] = x
        return kept[:, :, last_row : last_row + 1, last_column : last_column + 1]

    def select(self, rows: Int[Tensor, " B"]) -> None:
        """Let each row go on with the past of another."""
        self._maps = {key: kept[rows] for key, kept in self._maps.items()}

    def clear(self) -> None:
        """Forget everything."""
        self.cell = self.previous = None
        self._maps = {}


class CausalConvolution(nn.Module):
    """A convolution whose output at a cell sees the window that ends there, or before it.

    Args:
        num_inputs: channels.
        num_outputs: channels.
        kernel: (rows, columns) of the window.
        padding: (left, right, top): how far the window reaches beyond the cell to the left, to the right and up. Where
            left or top is the whole of the kernel, the window ends before the cell, or the row.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, kernel: tuple[int, int], padding: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.padding = (*padding, 0)
        self.is_shifted = padding[0] == kernel[1] or padding[2] == kernel[0]
        """Whether its input at a cell is the cell's own token, which no output there may see."""
        self.convolution = nn.Conv2d(num_inputs, num_outputs, kernel)

    def forward(self, x: Float[Tensor, "B C H W"], tape: Tape | None) -> Float[Tensor, "B O H W"]:
        """Convolve the whole grid, or with a tape that stands at a cell, what ends there."""
        window = F.pad(x, self.padding) if tape is None else tape.padded(self, x)
        out: Tensor = self.convolution(window)
        return out if tape is not None and tape.cell is not None else out[:, :, : x.shape[2], : x.shape[3]]

    def row(self, tape: Tape) -> Float[Tensor, "B O 1 W"]:
        """The present row of an output that sees only the rows above."""
        assert tape.cell is not None
        out: Tensor = self.convolution(tape.rows(self))
        return out


def causal(num_inputs: int, num_outputs: int) -> CausalConvolution:
    """2×2, down and right: the cell itself, and those left, above, and above left of it."""
    return CausalConvolution(num_inputs, num_outputs, (2, 2), (1, 0, 1))


def pointwise(num_inputs: int, num_outputs: int) -> nn.Conv2d:
    """1×1."""
    return nn.Conv2d(num_inputs, num_outputs, 1)


def gate(x: Float[Tensor, "B 2*C H W"]) -> Float[Tensor, "B C H W"]:
    """One half, as far as the other one lets it through."""
    value, opening = x.chunk(2, dim=1)
    return value * torch.sigmoid(opening)
