"""What is done to logits before a token is drawn: temperature, min-p, top-k, top-p.

Axes: B batch, K codebook entries. Removed entries become -∞.

Sources: top-k, Fan et al. 2018 (arXiv 1805.04833); top-p, Holtzman et al. 2020 (arXiv 1904.09751, eq. 2); min-p,
Nguyen et al. 2024 (arXiv 2407.01082).

Departures from the original: top-k keeps exactly k entries (it keeps every entry that equals the k-th, `keep_ties`);
k beyond K keeps all (it raises); top-p works without top-k (it is ignored there).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan_core.config import SamplingConfig


def top_k(logits: Float[Tensor, "B K"], k: int, *, keep_ties: bool = False) -> Float[Tensor, "B K"]:
    """Keep the k largest entries of each row; of equal ones, those that come first.

    Args:
        logits: any real numbers.
        k: how many entries are kept, at least 1.
        keep_ties: keep all entries that equal the k-th, which can be more than k; the original's rule.
    """
    if k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k).values[..., -1:]
    above, equal = logits > threshold, logits == threshold
    if not keep_ties:
        places_left = k - above.sum(-1, keepdim=True)
        equal &= equal.cumsum(-1) <= places_left
    return logits.masked_fill(~(above | equal), -torch.inf)


def top_p(logits: Float[Tensor, "B K"], p: float) -> Float[Tensor, "B K"]:
    """Keep the smallest set of likeliest entries whose probability exceeds p: at least one, and the one that crosses p.

    Entries that are already -∞ have no probability, so after `top_k` this looks at the renormalised rest.
    """
    if p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.softmax(-1).cumsum(-1)
    removed = torch.zeros_like(logits, dtype=torch.bool)
    removed[..., 1:] = cumulative[..., :-1] > p
    return logits.masked_fill(torch.zeros_like(removed).scatter(-1, order, removed), -torch.inf)


def min_p(logits: Float[Tensor, "B K"], share: float) -> Float[Tensor, "B K"]:
    """Keep the entries with at least this share of the likeliest one's probability."""
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(share), -torch.inf)


def filter_logits(logits: Float[Tensor, "B K"], config: SamplingConfig) -> Float[Tensor, "B K"]:
    """Apply temperature, then min-p, then top-k, then top-p; temperature 0 is the caller's business (greedy)."""
    assert config.temperature > 0
    logits = logits / config.temperature
    if config.min_p is not None:
        logits = min_p(logits, config.min_p)
    if config.top_k is not None:
        logits = top_k(logits, config.top_k)
    return logits if config.top_p is None else top_p(logits, config.top_p)
