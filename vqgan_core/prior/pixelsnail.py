"""PixelSNAIL: causal convolutions for what is near, attention for what is far.

Axes: B batch, D width, H×W grid, h heads, d head width.

Source: Chen, Mishra, Rohaninejad and Abbeel 2018 (arXiv 1712.09763), the paper's baseline (arXiv 2012.09841, table 1)
and VQ-VAE-2's prior. A first layer sees the tokens above and left of a cell; then blocks of gated residual layers of
2×2 convolutions, each with attention over everything before it.

Departures: what starts as zero (the last layer of each branch, the head) stands in for weight normalisation; the first
cell attends to a learned key, where the original's mask leaves it nothing; place and condition enter by a learned map
instead of two channels of coordinates. And steps are cached (`tape`), where the
original's code computes the whole grid for every token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqgan_core.prior.decoder import INIT_STD
from vqgan_core.prior.pixels import PixelDecoder, PixelShape, at_cell
from vqgan_core.prior.tape import CausalConvolution, Tape, causal, gate, pointwise

__all__ = ["PixelSnail"]


class GatedResidual(nn.Module):
    """Two convolutions and a gate, added to what came in; the condition enters between them."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = causal(width, width)
        self.condition = pointwise(width, width)
        self.dropout = nn.Dropout(dropout)
        self.second = causal(width, 2 * width)
        nn.init.zeros_(self.second.convolution.weight)

    def forward(self, x: Tensor, condition: Tensor, tape: Tape | None) -> Float[Tensor, "B D n m"]:
        """Apply."""
        hidden = self.first(F.elu(x), tape) + self.condition(condition)
        return x + gate(self.second(self.dropout(F.elu(hidden)), tape))


class GridAttention(nn.Module):
    """Attention of each cell to those before it: what the network made of them, and their tokens.

    A cell's features lack its own token, and no window reaches the end of the row above: only here the token that was
    read last is always seen. Keys stand one place later than their cells, behind one that says that there is nothing.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = pointwise(2 * width, width)
        self.key = pointwise(2 * width, width)
        self.value = pointwise(2 * width, width)
        self.nothing = nn.Parameter(INIT_STD * torch.randn(2, 1, num_heads, 1, width // num_heads))

    def forward(self, x: Tensor, told: Tensor, embedded: Tensor, tape: Tape | None) -> Float[Tensor, "B D n m"]:
        """Mix cells."""
        known = torch.cat([x if tape is None else tape.before(self, x), embedded.to(x.dtype)], dim=1)
        query = self._heads(self.query(torch.cat([x, told.to(x.dtype)], dim=1)))
        key, value = (
            self._shifted(self._heads(layer(known)), nothing, tape)
            for layer, nothing in zip((self.key, self.value), self.nothing, strict=True)
        )
        if tape is not None:
            key, value = tape.sequence(self.key, key), tape.sequence(self.value, value)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=query.shape[2] > 1)
        return rearrange(mixed, "B h (H W) d -> B (h d) H W", H=x.shape[2])

    def _heads(self, x: Float[Tensor, "B D n m"]) -> Float[Tensor, "B h n*m d"]:
        return rearrange(x, "B (h d) H W -> B h (H W) d", h=self.num_heads)

    def _shifted(self, x: Tensor, nothing: Tensor, tape: Tape | None) -> Float[Tensor, "B h T d"]:
        """A place later; at a step, the newest stands alone."""
        if tape is not None and tape.cell is not None:
            return x
        return torch.cat([nothing.to(x.dtype).expand(len(x), -1, -1, -1), x[:, :, :-1]], dim=2)


class Block(nn.Module):
    """Gated residual layers, then attention and a gate that lets it in."""

    def __init__(self, width: int, num_heads: int, num_res_blocks: int, dropout: float) -> None:
        super().__init__()
        self.residuals = nn.ModuleList(GatedResidual(width, dropout) for _ in range(num_res_blocks))
        self.attention = GridAttention(width, num_heads)
        self.own = pointwise(width, width)
        self.attended = pointwise(width, width)
        self.dropout = nn.Dropout(dropout)
        self.out = pointwise(width, 2 * width)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, told: Tensor, embedded: Tensor, tape: Tape | None) -> Float[Tensor, "B D n m"]:
        """Apply."""
        for residual in self.residuals:
            x = residual(x, told, tape)
        attended = self.attention(x, told, embedded, tape)
        mixed = F.elu(self.own(F.elu(x)) + self.attended(F.elu(attended)))
        return x + gate(self.out(self.dropout(mixed)))


class PixelSnail(PixelDecoder):
    """Tokens of a grid to the logits of each cell.

    Args:
        shape: what is read, and D.
        num_blocks: blocks with an attention each.
        num_res_blocks: gated residual layers of each block.
        num_heads: attention heads; must divide width.
        dropout: inside of the residual branches.
    """

    def __init__(
        self, shape: PixelShape, num_blocks: int, *, num_res_blocks: int, num_heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__(shape)
        width = shape.width
        self.above = CausalConvolution(width, width, (1, 3), (1, 1, 1))
        self.left = CausalConvolution(width, width, (2, 1), (1, 0, 1))
        self.blocks = nn.ModuleList(Block(width, num_heads, num_res_blocks, dropout) for _ in range(num_blocks))

    def features(
        self, x: Float[Tensor, "B D n m"], condition: Float[Tensor, "B D H W"], tape: Tape | None
    ) -> Float[Tensor, "B D n m"]:
        """From embedded tokens to what predicts each cell."""
        embedded, told = x, at_cell(condition, tape)
        x = self.above(x, tape) + self.left(x, tape) + told
        for block in self.blocks:
            if self.activation_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, told, embedded, tape, use_reentrant=False)
            else:
                x = block(x, told, embedded, tape)
        return F.elu(x)
