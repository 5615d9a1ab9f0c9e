"""Beam search: images of high likelihood, without chance.

Axes: B images, W beams, N tokens, K codebook entries.

Every beam is extended by every token, and the W likeliest of the W·K sequences of an image go on. With one beam this is
greedy; with K^N it finds the likeliest image. Likely images are bland: this is for probing a prior, sampling for using
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.condition import Columns
from vqgan_core.prior.model import Prior
from vqgan_core.prior.orders import inverse
from vqgan_core.prior.packed import for_drawing
from vqgan_core.prior.sampling import starting_rows


@dataclass(frozen=True)
class Beams:
    """The found images, likeliest first."""

    tokens: Int[Tensor, "B W N"]
    """Row by row."""
    log_probability: Float[Tensor, "B W"]
    """Of the whole image in nats; -∞ where there are fewer images than beams."""


@torch.no_grad()
def beam_search(
    prior: Prior,
    labels: Int[Tensor, " B"] | None,
    *,
    num_beams: int,
    batch_size: int = 1,
    columns: Columns | None = None,
) -> Beams:
    """Search for the likeliest images, in the prior's order, with dropout off.

    Args:
        prior: on any device; the tokens come back there.
        labels: one an image for a class-conditional prior, else None.
        num_beams: W, at least 1.
        batch_size: images, where there are neither labels nor columns to count.
        columns: an image's tokens of each of the prior's condition columns.

    Raises:
        ValueError: no beams; labels or columns missing, out of range, or given to a prior that is not told them.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams {num_beams}: must be at least 1")
    given = [tokens for tokens in (labels, *(columns or {}).values()) if tokens is not None]
    size = len(given[0]) if given else batch_size
    prefix = starting_rows(prior, labels, size, columns=columns)
    found, scores = _search(prior, prefix.repeat_interleave(num_beams, dim=0), size, num_beams)
    return Beams(found[:, :, inverse(prior.order)], scores)


def _search(
    prior: Prior, prefix: Float[Tensor, "B*W P D"], size: int, num_beams: int
) -> tuple[Int[Tensor, "B W N"], Float[Tensor, "B W"]]:
    num_tokens, num_codes = prior.spec.num_tokens, prior.spec.codebook_size
    network = for_drawing(prior.transformer, len(prefix), SamplingConfig())
    orders, cache = prior.order[None], network.new_cache(len(prefix), max_length=prior.max_length)
    tokens = torch.empty(size, num_beams, 0, dtype=torch.int64, device=prior.device)
    scores = torch.full((size, num_beams), -torch.inf, device=prior.device)
    scores[:, 0] = 0  # all beams are the same at first: one of them is enough
    first_image = torch.arange(size, device=prior.device)[:, None] * num_beams
    given: Tensor | None = prefix
    for step in range(num_tokens):
        newest = tokens[:, :, max(step - 1, 0) : step].flatten(0, 1)
        placement = prior.placement(orders, cache.length, prior.num_prefix + step)
        logits = network(newest, given, cache, placement, num_last=1)
        given = None
        log_p = logits[:, -1].float().log_softmax(-1).view(size, num_beams, num_codes)
        scores, chosen = (scores[..., None] + log_p).flatten(1).topk(num_beams, dim=-1)
        parents = chosen // num_codes
        cache.select((first_image + parents).flatten())
        kept = tokens.gather(1, parents[..., None].expand(-1, -1, step))
        tokens = torch.cat([kept, (chosen % num_codes)[..., None]], dim=-1)
    return tokens, scores
