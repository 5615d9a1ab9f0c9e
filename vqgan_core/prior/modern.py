"""A transformer of today's parts, beside the original's: what LlamaGen and its successors train on image tokens.

Axes: B batch, T positions, D width, R rows (B, or 1 for all alike), h heads, g key and value heads, d head width,
`pairs` d / 2.

Sources: RMSNorm, Zhang and Sennrich 2019 (arXiv 1910.07467); SwiGLU, Shazeer 2020 (arXiv 2002.05202); rotary positions,
Su et al. 2021 (arXiv 2104.09864), in two dimensions as LlamaGen (arXiv 2406.06525): the first half of the pairs turns
by the row, the second by the column; QK-norm, Henry et al. 2020 (arXiv 2010.04245), here an RMSNorm of each head;
grouped queries, Ainslie et al. 2023 (arXiv 2305.13245).

Departures from LlamaGen: the condition, however long, stands unturned (cos 1, sin 0), and learned embeddings say where
in its grid each of its elements is. LlamaGen fills its place in the table with zeros, which sets its query and key to
0, so that every token looks at the condition alike, whatever it is: `condition_rotation: zero` keeps that for weights
that learned it. And queries and keys are normed (`qk_norm`), and whatever is added to the residual stream, and the
head, starts at zero: the untrained model is uniform.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.config import PriorConfig
from vqgan_core.prior.decoder import Decoder, init_weights
from vqgan_core.prior.self_attention import Context, Rotation, SelfAttention

ROTARY_BASE = 10_000.0
MLP_MULTIPLE = 64
"""The perceptron's width is a multiple of this."""


class RMSNorm(nn.Module):
    """x / sqrt(mean x² + ε), times a learned scale; computed in fp32 also under autocast."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """Norm the last axis."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), eps=1e-5).type_as(x)


class RotaryGrid(nn.Module):
    """Angles of the condition (positions below P: none at all) and of each cell (position P + cell) of a grid.

    Args:
        height: H.
        width: W.
        head_width: d, a multiple of 4.
        num_prefix: P.
        condition_is_zero: whether the condition is not left as it is, but multiplied by 0 (LlamaGen).
    """

    cells: Int[Tensor, "L 2"]

    def __init__(
        self, height: int, width: int, head_width: int, num_prefix: int = 1, *, condition_is_zero: bool = False
    ) -> None:
        super().__init__()
        self.num_zeroed = num_prefix if condition_is_zero else 0
        cells = torch.cartesian_prod(*(torch.arange(side, device="cpu") for side in (height, width)))
        # Whole numbers, which survive a cast of the model to bf16; angles are computed anew in fp32.
        self.register_buffer("cells", F.pad(cells.view(-1, 2), (0, 0, num_prefix, 0)), persistent=False)
        self.num_frequencies = head_width // 4

    def forward(self, start: int, end: int, positions: Int[Tensor, "R T"] | None) -> Rotation:
        """Angles of positions; None: start … end - 1."""
        cells = self.cells[None, start:end] if positions is None else self.cells[positions]
        exponents = torch.arange(self.num_frequencies, device=cells.device) / self.num_frequencies
        angles = (cells[..., None] * ROTARY_BASE**-exponents).flatten(-2)[:, None]
        rotation = Rotation(angles.cos(), angles.sin())
        if not self.num_zeroed:
            return rotation
        places = torch.arange(start, end, device=cells.device)[None] if positions is None else positions
        kept = (places >= self.num_zeroed)[:, None, :, None]
        return Rotation(*(part * kept for part in rotation))


def rotate(x: Float[Tensor, "B h T d"], rotation: Rotation) -> Float[Tensor, "B h T d"]:
    """Turn each pair of neighbouring entries by its angle."""
    first, second = rearrange(x.float(), "B h T (pairs two) -> two B h T pairs", two=2)
    cos, sin = rotation
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(-2).type_as(x)


class Attention(SelfAttention):
    """Self-attention with normed and turned queries and keys."""

    def __init__(self, config: PriorConfig) -> None:
        num_key_value_heads = config.num_key_value_heads or config.num_heads
        head_width = config.width // config.num_heads
        super().__init__(config.width, head_width, num_key_value_heads, dropout=config.dropout, bias=False)
        self.query_norm = RMSNorm(head_width) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(head_width) if config.qk_norm else nn.Identity()

    def turned(
        self, query: Float[Tensor, "B h T d"], key: Float[Tensor, "B g T d"], rotation: Rotation | None
    ) -> tuple[Float[Tensor, "B h T d"], Float[Tensor, "B g T d"]]:
        """Norm, then turn by each position's angles."""
        assert rotation is not None
        return rotate(self.query_norm(query), rotation), rotate(self.key_norm(key), rotation)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)), with as many parameters as two matrices of four times the width."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_width or mlp_width(config.width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Each position by itself."""
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


def mlp_width(width: int) -> int:
    """8/3 of the width, rounded up."""
    return -(-8 * width // (3 * MLP_MULTIPLE)) * MLP_MULTIPLE


class Layer(nn.Module):
    """Attention, then SwiGLU, each on its normed input and added to it."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.mlp = SwiGLU(config)
        self.dropout = config.dropout

    def forward(self, x: Float[Tensor, "B T D"], context: Context, layer: int) -> Float[Tensor, "B T D"]:
        """Apply both residual branches."""
        x = x + self._dropped(self.attention(self.attention_norm(x), context, layer))
        mixed: Tensor = x + self._dropped(self.mlp(self.mlp_norm(x)))
        return mixed

    def _dropped(self, branch: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return F.dropout(branch, self.dropout) if self.training else branch


class ModernTransformer(Decoder):
    """Tokens of a grid (after the condition) to the logits of each next token.

    Args:
        config: layers, heads (each a multiple of 4 wide), width, dropout.
        vocabulary_size: V.
        grid: (H, W); there are P + H·W positions.
        num_prefix: P, elements of the condition.
    """

    def __init__(self, config: PriorConfig, vocabulary_size: int, grid: tuple[int, int], num_prefix: int = 1) -> None:
        super().__init__()
        self.num_cached_heads = config.num_key_value_heads or config.num_heads
        self.head_width = config.width // config.num_heads
        self.max_length = num_prefix + grid[0] * grid[1]
        self.token_embedding = nn.Embedding(vocabulary_size, config.width)
        self.rotary = RotaryGrid(
            *grid, self.head_width, num_prefix, condition_is_zero=config.condition_rotation == "zero"
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, vocabulary_size, bias=False)
        self.apply(init_weights)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.projection.weight", "mlp.down.weight", "head.weight")):
                nn.init.zeros_(weight)

    def place(
        self, x: Float[Tensor, "B T D"], start: int, positions: Int[Tensor, "R T"] | None
    ) -> tuple[Float[Tensor, "B T D"], Rotation | None]:
        """Leave the embeddings, and say how queries and keys are turned."""
        return x, self.rotary(start, start + x.shape[1], positions)
