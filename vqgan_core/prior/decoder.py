"""What all our transformers share: tokens in, logits of each next token out, with a cache or without.

Axes: B batch, P prefix embeddings, N tokens, T = P + N positions, R rows (B, or 1 for all alike), D width,
V vocabulary, q queries, k keys.

A transformer reads a sequence. Which cell of the grid an element stands for, and which cell it has to predict, is told
beside the tokens (`Placement`), so that one model can read a grid in any order.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqgan_core.prior.attention import Visibility, visibility
from vqgan_core.prior.cache import CacheAt, KeyValueCache
from vqgan_core.prior.self_attention import Context, Rotation

INIT_STD = 0.02


class Placement(NamedTuple):
    """What is said of the given elements of a sequence, prefix included, beside their tokens."""

    positions: Int[Tensor, "R T"] | None = None
    """Row of each element in the transformer's table of positions; None: its index in the sequence."""
    targets: Float[Tensor, "R T D"] | None = None
    """Embedding of the cell that each element predicts, added to its own; None: that follows from the position."""
    hidden: Bool[Tensor, "R T"] | None = None
    """Elements that are not told: zeros in place of their embedding."""


class Decoder(nn.Module):
    """Base of the transformers: embedding, layers, norm, head. What positions do is each one's own (`place`)."""

    max_length: int
    """Positions that there are, prefix included."""
    num_unmasked: int = 0
    """The first so many positions see each other in both directions."""
    num_cached_heads: int
    """Heads of keys and values."""
    head_width: int
    """Width of one head."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""

    token_embedding: nn.Embedding
    dropout: nn.Dropout
    layers: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear

    @abstractmethod
    def place(
        self, x: Float[Tensor, "B T D"], start: int, positions: Int[Tensor, "R T"] | None
    ) -> tuple[Float[Tensor, "B T D"], Rotation | None]:
        """Tell the embeddings where they are, or return how the layers' queries and keys are turned.

        Args:
            x: embeddings of T elements.
            start: index of the first one in the sequence.
            positions: rows of the table of positions; None: start, start + 1, …
        """

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
        shape = (batch_size, self.num_cached_heads, length, self.head_width)
        weight = self.token_embedding.weight
        return KeyValueCache.allocate(len(self.layers), shape, device=weight.device, dtype=weight.dtype)

    def forward(
        self,
        tokens: Int[Tensor, "B N"],
        prefix: Float[Tensor, "B P D"] | None = None,
        cache: KeyValueCache | None = None,
        placement: Placement | None = None,
        num_last: int | None = None,
    ) -> Float[Tensor, "B L V"]:
        """Logits after each of the given positions, prefix included, or after the last `num_last` of them.

        Args:
            tokens: what follows the prefix, or the cached positions.
            prefix: embeddings that stand before the tokens; positions are told to them, too.
            cache: with it, only new positions are given; it is extended by them. Not for training.
            placement: where the given elements stand; None: in sequence.
            num_last: L, after how many positions logits are wanted; None: after all P + N.

        Raises:
            ValueError: more positions than the model or the cache has, gradients through a cache, or a bidirectional
                prefix that is given to a cache in pieces.
        """
        start = 0 if cache is None else cache.length
        placement = Placement() if placement is None else placement
        x = self._embed(tokens, prefix, placement)
        end = start + x.shape[1]
        self._check(start, end, cache)
        x, rotation = self.place(x, start, placement.positions)
        context = Context(visibility(start, end, self.num_unmasked, x.device), cache, rotation)
        x = self._apply_layers(self.dropout(x), context)
        if cache is not None:
            cache.advance(end - start)
        logits: Tensor = self.head(self.final_norm(x if num_last is None else x[:, -num_last:]))
        return logits

    def step(self, tokens: Int[Tensor, "B 1"], cache: CacheAt, placement: Placement) -> Float[Tensor, "B 1 V"]:
        """Logits after one more token, by the same operations on the same shapes wherever the cache stands."""
        positions = cache.position[None] if placement.positions is None else placement.positions
        x, rotation = self.place(self._embed(tokens, None, placement), 0, positions)
        filled = torch.arange(cache.keys[0].shape[2], device=x.device) <= cache.position
        visible = Visibility(filled[None], is_causal=False)
        x = self._apply_layers(self.dropout(x), Context(visible, cache, rotation))
        logits: Tensor = self.head(self.final_norm(x))
        return logits

    def _embed(
        self, tokens: Int[Tensor, "B N"], prefix: Float[Tensor, "B P D"] | None, placement: Placement
    ) -> Float[Tensor, "B T D"]:
        x: Tensor = self.token_embedding(tokens)
        if prefix is not None:
            x = torch.cat([prefix.to(x.dtype), x], dim=1)
        if placement.hidden is not None:
            x = x.masked_fill(placement.hidden[..., None], 0)
        return x if placement.targets is None else x + placement.targets.to(x.dtype)

    def _apply_layers(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        for index, layer in enumerate(self.layers):
            if self.activation_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, context, index, use_reentrant=False)
            else:
                x = layer(x, context, index)
        return x

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
