"""Attention over whole sequences and over cached ones, by whichever kernel is fast where it runs.

Axes: B batch, h heads, g key and value heads, q queries, k keys, T positions, d head width.

Source: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1. PyTorch's kernel is used, but in one place: its bf16 on a CPU,
forward and backward, takes several times as long as the matrix products that it consists of.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 128
"""Queries that are answered at once: keys after the last one of them are left out of the products."""
LONGEST = 512
"""Longer sequences would keep too much for the backward pass."""


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


def split_heads(x: Float[Tensor, "B T D"], head_width: int) -> Float[Tensor, "B h T d"]:
    """Give each head its own channels."""
    return x.view(*x.shape[:2], -1, head_width).transpose(1, 2)


def join_heads(x: Float[Tensor, "B h T d"]) -> Float[Tensor, "B T D"]:
    """Put the heads' channels side by side."""
    return x.transpose(1, 2).flatten(2)


def attend(
    query: Float[Tensor, "B h q d"],
    key: Float[Tensor, "B g k d"],
    value: Float[Tensor, "B g k d"],
    visible: Visibility,
    dropout: float = 0.0,
) -> Float[Tensor, "B h q d"]:
    """softmax(q kᵀ / √d) v, each query over the keys that it may see.

    Args:
        query: of all heads.
        key: of as many heads, or of fewer, which several query heads then share.
        value: as the keys.
        visible: which keys each query may see.
        dropout: share of the weights that is left out, of whichever the present pass wants.
    """
    if visible.is_causal and query.shape == key.shape and _is_slow(query):
        return _in_blocks(query, key, value, dropout)
    is_grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, visible.mask, dropout, visible.is_causal, enable_gqa=is_grouped
    )


def _is_slow(query: Tensor) -> bool:
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[2] <= LONGEST


def _in_blocks(
    query: Float[Tensor, "B h T d"], key: Float[Tensor, "B h T d"], value: Float[Tensor, "B h T d"], dropout: float
) -> Float[Tensor, "B h T d"]:
    """Causal attention as plain products; logits are rounded to bf16, as in any network under autocast."""
    shape, length = query.shape, query.shape[2]
    query, key, value = (part.flatten(0, 1) for part in (query, key, value))
    mixed = []
    with torch.autocast("cpu", enabled=False):  # which would compute the softmax in fp32 tensors
        for start in range(0, length, BLOCK):
            end = min(start + BLOCK, length)
            hidden = query.new_full((end - start, end), -torch.inf).triu_(start + 1)
            past = key[:, :end].transpose(1, 2)
            logits = torch.baddbmm(hidden, query[:, start:end], past, alpha=query.shape[-1] ** -0.5)
            weights = F.dropout(logits.softmax(-1), dropout)
            mixed.append(torch.bmm(weights, value[:, :end]))
    return torch.cat(mixed, dim=1).view(shape)
