"""The original's transformer: a pre-norm GPT with learned positions.

Axes: B batch, T positions, D width, R rows (B, or 1 for all alike), h heads, d head width.

Sources: Radford et al. 2019 (GPT-2) as arXiv 2012.09841 §3.2 uses it, down to the details that decide whether imported
weights give the same numbers: LayerNorm ε 1e-5, exact (erf) GELU, biases in q, k, v and the projection, a head without
bias that is not tied to the embedding, positions that start at zero, N(0, 0.02) for every matrix.

Departures: attention is torch's scaled_dot_product_attention, without a mask buffer for each layer; the cache has a
fixed size, and a chunk of several tokens that follows cached ones is causal (in the original its tokens see each
other's future, because the cached path has no mask).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.prior.decoder import Decoder, init_weights
from vqgan_core.prior.self_attention import Context, Rotation, SelfAttention

__all__ = ["GPT", "Layer"]


class Layer(nn.Module):
    """Attention, then a two-layer perceptron of four times the width, each on its normed input and added to it."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, width // num_heads, num_heads, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "B T D"], context: Context, layer: int) -> Float[Tensor, "B T D"]:
        """Apply both residual branches."""
        x = x + self._dropped(self.attention(self.attention_norm(x), context, layer))
        mixed: Tensor = x + self._dropped(self.mlp(self.mlp_norm(x)))
        return mixed

    def _dropped(self, branch: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return F.dropout(branch, self.dropout) if self.training else branch


class GPT(Decoder):
    """Tokens (after optional prefix embeddings) to the logits of each next token.

    Args:
        vocabulary_size: V.
        max_length: positions that there are, prefix included.
        num_layers: transformer layers.
        num_heads: attention heads.
        width: D.
        dropout: of embeddings, attention weights and residual branches.
        num_unmasked: the first so many positions see each other in both directions.
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        num_layers: int,
        num_heads: int,
        width: int,
        dropout: float = 0.0,
        num_unmasked: int = 0,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide width {width}")
        self.max_length = max_length
        self.num_heads = self.num_cached_heads = num_heads
        self.head_width = width // num_heads
        self.num_unmasked = num_unmasked
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Parameter(torch.zeros(1, max_length, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, num_heads, dropout) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.apply(init_weights)

    def place(
        self, x: Float[Tensor, "B T D"], start: int, positions: Int[Tensor, "R T"] | None
    ) -> tuple[Float[Tensor, "B T D"], Rotation | None]:
        """Add the learned embedding of each position."""
        if positions is None:
            return x + self.position_embedding[:, start : start + x.shape[1]], None
        return x + F.embedding(positions, self.position_embedding[0]), None
