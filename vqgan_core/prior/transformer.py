"""The original's transformer: a pre-norm GPT with learned positions.

Axes: B batch, P prefix embeddings, N tokens, V vocabulary, D width, h heads, d head width, q queries, k keys.

Sources: Radford et al. 2019 (GPT-2) as arXiv 2012.09841 §3.2 uses it, down to the details that decide whether imported
weights give the same numbers: LayerNorm ε 1e-5, exact (erf) GELU, biases in q, k, v and the projection, a head without
bias that is not tied to the embedding, positions that start at zero, N(0, 0.02) for every matrix.

Departures: attention is torch's scaled_dot_product_attention, without a mask buffer for each layer; the cache has a
fixed size, and a chunk of several tokens that follows cached ones is causal (in the original its tokens see each
other's future, because the cached path has no mask).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan_core.prior.cache import KeyValueCache

INIT_STD = 0.02


class Visibility(NamedTuple):
    """Which keys each query may see, in the two forms that SDPA takes."""

    mask: Bool[Tensor, "q k"] | None
    is_causal: bool


def visibility(start: int, end: int, num_unmasked: int, device: torch.device) -> Visibility:
    """Let queries start … end - 1 see keys 0 … end - 1: the past and themselves, and the whole unmasked prefix.

    Args:
        start: position of the first query; the keys before it come from a cache.
        end: position after the last query.
        num_unmasked: the first so many positions see each other in both directions.
        device: where a mask is made, if one is needed.
    """
    if start >= num_unmasked and end - start == 1:
        return Visibility(None, is_causal=False)
    if start == num_unmasked == 0:
        return Visibility(None, is_causal=True)
    queries = torch.arange(start, end, device=device)[:, None]
    keys = torch.arange(end, device=device)[None, :]
    return Visibility((keys <= queries) | ((keys < num_unmasked) & (queries < num_unmasked)), is_causal=False)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.projection = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B N D"], visible: Visibility, layer: int, cache: KeyValueCache | None
    ) -> Float[Tensor, "B N D"]:
        """Mix positions; with a cache, `layer` is its row that holds this layer's past."""
        query, key, value = (
            rearrange(linear(x), "B N (h d) -> B h N d", h=self.num_heads)
            for linear in (self.query, self.key, self.value)
        )
        if cache is not None:
            key, value = cache.append(layer, key, value)
            query = query.to(key.dtype)
        mixed = F.scaled_dot_product_attention(
            query, key, value, visible.mask, self.dropout if self.training else 0.0, visible.is_causal
        )
        projected: Tensor = self.projection(rearrange(mixed, "B h N d -> B N (h d)"))
        return projected


class Layer(nn.Module):
    """Attention, then a two-layer perceptron of four times the width, each on its normed input and added to it."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B N D"], visible: Visibility, layer: int, cache: KeyValueCache | None
    ) -> Float[Tensor, "B N D"]:
        """Apply both residual branches."""
        x = x + self.dropout(self.attention(self.attention_norm(x), visible, layer, cache))
        mixed: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return mixed


class GPT(nn.Module):
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
        self.num_heads = num_heads
        self.num_unmasked = num_unmasked
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Parameter(torch.zeros(1, max_length, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, num_heads, dropout) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.apply(init_weights)

    @property
    def width(self) -> int:
        """D."""
        return self.token_embedding.embedding_dim

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.token_embedding.num_embeddings

    def new_cache(self, batch_size: int, max_length: int | None = None) -> KeyValueCache:
        """Allocate an empty cache for a batch, on the model's device and in its precision."""
        length = self.max_length if max_length is None else max_length
        shape = (len(self.layers), batch_size, self.num_heads, length, self.width // self.num_heads)
        weight = self.head.weight
        return KeyValueCache.allocate(shape, device=weight.device, dtype=weight.dtype)

    def forward(
        self,
        tokens: Int[Tensor, "B N"],
        prefix: Float[Tensor, "B P D"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "B P+N V"]:
        """Logits after each position, prefix positions included.

        Args:
            tokens: what follows the prefix, or the cached positions.
            prefix: embeddings that stand before the tokens; positions are added to them, too.
            cache: with it, only new positions are given; it is extended by them. Not for training.

        Raises:
            ValueError: more positions than the model or the cache has, gradients through a cache, or a bidirectional
                prefix that is given to a cache in pieces.
        """
        start = 0 if cache is None else cache.length
        x = self.token_embedding(tokens)
        if prefix is not None:
            x = torch.cat([prefix.to(x.dtype), x], dim=1)
        end = start + x.shape[1]
        self._check(start, end, cache)
        x = self.dropout(x + self.position_embedding[:, start:end])
        visible = visibility(start, end, self.num_unmasked, x.device)
        for index, layer in enumerate(self.layers):
            x = layer(x, visible, index, cache)
        if cache is not None:
            cache.advance(end - start)
        logits: Tensor = self.head(self.final_norm(x))
        return logits

    def _check(self, start: int, end: int, cache: KeyValueCache | None) -> None:
        limit = self.max_length if cache is None else min(self.max_length, cache.max_length)
        if end > limit:
            raise ValueError(f"{end} positions (prefix included) given to a transformer that has {limit}")
        if cache is not None and torch.is_grad_enabled():
            raise ValueError("a cache is written in place and carries no gradients: call under torch.no_grad()")
        if 0 < start < self.num_unmasked:
            raise ValueError(
                f"the first {self.num_unmasked} positions see each other, so they must enter the cache in one call; "
                f"it holds {start}"
            )


def init_weights(module: nn.Module) -> None:
    """Initialise as the original: N(0, 0.02) for matrices and embeddings, 0 for biases, 1 for norms."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
