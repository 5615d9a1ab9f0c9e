"""The self-attention layer that all our transformers share, and what every layer of one forward pass is told.

Axes: B batch, T positions, D width, R rows (B, or 1 for all alike), h heads, g key and value heads, d head width,
`pairs` d / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core.prior.attention import Visibility, attend, join_heads, split_heads
from vqgan_core.prior.cache import CacheAt, KeyValueCache
from vqgan_core.prior.packed_linear import PackedLinear, side_by_side


class Rotation(NamedTuple):
    """Angles by which queries and keys are turned."""

    cos: Float[Tensor, "R 1 T pairs"]
    sin: Float[Tensor, "R 1 T pairs"]


class Context(NamedTuple):
    """What every layer of one forward pass needs."""

    visible: Visibility
    cache: KeyValueCache | CacheAt | None
    rotation: Rotation | None


class SelfAttention(nn.Module):
    """Multi-head self-attention; several query heads may share a key and value head.

    Args:
        width: D.
        head_width: d.
        num_key_value_heads: g.
        dropout: of the weights.
        bias: whether queries, keys, values and the projection have one.
    """

    def __init__(
        self, width: int, head_width: int, num_key_value_heads: int, *, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.head_width = head_width
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, num_key_value_heads * head_width, bias=bias)
        self.value = nn.Linear(width, num_key_value_heads * head_width, bias=bias)
        self.joint: PackedLinear | None = None
        """All three as one product, in a network that is laid out for drawing (`packed`)."""
        self.projection = nn.Linear(width, width, bias=bias)

    def forward(self, x: Float[Tensor, "B T D"], context: Context, layer: int) -> Float[Tensor, "B T D"]:
        """Mix positions; with a cache, `layer` is its row that holds this layer's past, already turned."""
        query, key, value = (split_heads(part, self.head_width) for part in self._inputs(x))
        query, key = self.turned(query, key, context.rotation)
        if context.cache is not None:
            key, value = context.cache.append(layer, key, value)
            query = query.to(key.dtype)
        mixed = attend(query, key, value, context.visible, self.dropout if self.training else 0.0)
        projected: Tensor = self.projection(join_heads(mixed))
        return projected

    def turned(
        self, query: Float[Tensor, "B h T d"], key: Float[Tensor, "B g T d"], rotation: Rotation | None
    ) -> tuple[Float[Tensor, "B h T d"], Float[Tensor, "B g T d"]]:
        """Queries and keys as they meet; here as they are."""
        assert rotation is None, "this transformer's positions are told to its embeddings"
        return query, key

    def _inputs(self, x: Float[Tensor, "B T D"]) -> Sequence[Float[Tensor, "B T D2"]]:
        """Queries, keys and values."""
        if self.joint is None:
            return side_by_side(x, (self.query, self.key, self.value))
        parts: Sequence[Tensor] = self.joint(x).split_with_sizes(self.joint.sizes, dim=-1)
        return parts
