"""Gated PixelCNN: a stack that sees the rows above, and one that sees the row so far and listens to it.

Axes: B batch, D width, H×W grid.

Source: van den Oord et al. 2016 (arXiv 1606.05328), figure 2; as the prior of VQ-VAE (arXiv 1711.00937). Two stacks
leave no blind spot. Departures: place and condition enter by a learned map; the last layer of each branch starts at
zero; steps are cached: the upper stack is computed once a row, the other one cell by cell.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqgan_core.prior.pixels import PixelDecoder, PixelShape, at_cell
from vqgan_core.prior.tape import CausalConvolution, Tape, gate, pointwise

__all__ = ["PixelCnn"]

FIRST, FURTHER = 3, 1
"""How far the first layer, and the others, see to each side."""


class Layer(nn.Module):
    """One layer of both stacks."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        reach = FURTHER
        self.vertical = CausalConvolution(width, 2 * width, (reach + 1, 2 * reach + 1), (reach, reach, reach))
        self.horizontal = CausalConvolution(width, 2 * width, (1, reach + 1), (reach, 0, 0))
        self.down = pointwise(2 * width, 2 * width)
        self.condition = pointwise(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.out = pointwise(width, width)
        nn.init.zeros_(self.out.weight)

    def upper(self, v: Float[Tensor, "B D n W"], condition: Float[Tensor, "B D n W"], tape: Tape | None) -> Tensor:
        """The upper stack before its gate."""
        raw: Tensor = self.vertical(v, tape) + self.condition(condition)
        return raw

    def lower(
        self, h: Float[Tensor, "B D n m"], heard: Float[Tensor, "B 2*D n m"], told: Tensor, tape: Tape | None
    ) -> Float[Tensor, "B D n m"]:
        """The lower stack, which hears the upper one."""
        raw = self.horizontal(h, tape) + heard + self.condition(told)
        mixed: Tensor = h + self.out(self.dropout(gate(raw)))
        return mixed


class PixelCnn(PixelDecoder):
    """Tokens of a grid to the logits of each cell.

    Args:
        shape: what is read, and D.
        num_layers: of both stacks.
        dropout: inside of the residual branches.
    """

    def __init__(self, shape: PixelShape, num_layers: int, *, dropout: float = 0.0) -> None:
        super().__init__(shape)
        width = shape.width
        self.above = CausalConvolution(width, width, (FIRST, 2 * FIRST + 1), (FIRST, FIRST, FIRST))
        self.left = CausalConvolution(width, width, (1, FIRST), (FIRST, 0, 0))
        self.layers = nn.ModuleList(Layer(width, dropout) for _ in range(num_layers))

    def features(
        self, x: Float[Tensor, "B D n m"], condition: Float[Tensor, "B D H W"], tape: Tape | None
    ) -> Float[Tensor, "B D n m"]:
        """From embedded tokens to what predicts each cell."""
        heard = self._upper_stack(x, condition, tape)
        told = at_cell(condition, tape)
        h = self.left(x, tape)
        for layer, each in zip(self.layers, heard, strict=True):
            assert isinstance(layer, Layer)
            if self.activation_checkpointing and torch.is_grad_enabled():
                h = checkpoint(layer.lower, h, each, told, tape, use_reentrant=False)
            else:
                h = layer.lower(h, each, told, tape)
        return F.elu(h)

    def _upper_stack(self, x: Tensor, condition: Tensor, tape: Tape | None) -> list[Tensor]:
        """What each layer of the lower stack hears: of the whole grid, or at the present cell."""
        if tape is None:
            return self._upper_rows(self.above(x, tape), condition, tape)
        heard: list[Tensor] | list[None] = [None] * len(self.layers)
        if tape.cell is None:
            heard = self._upper_rows(self.above(x, tape), condition, tape)
        else:
            tape.write(self.above, x)
            row, column = tape.cell
            if column == 0:
                heard = self._upper_rows(self.above.row(tape), condition[:, :, row : row + 1], tape)
        return [tape.row(layer, each) for layer, each in zip(self.layers, heard, strict=True)]

    def _upper_rows(self, v: Tensor, condition: Tensor, tape: Tape | None) -> list[Tensor]:
        heard = []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            raw = layer.upper(v, condition, tape)
            v = v + gate(raw)
            heard.append(layer.down(raw))
        return heard
