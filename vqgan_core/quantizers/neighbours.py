"""Indices that are replaced by nearby ones, as an imperfect prior would choose them.

Axes: B batch, h×w grid, D width, K entries, P positions, δ neighbours.

Source: the latent perturbation of RobustTok, as described in words: each index is replaced with a probability α by a
random one of the δ entries nearest to its own.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqgan_core.quantizers import vector
from vqgan_core.quantizers.base import Quantizer
from vqgan_core.quantizers.precision import full_precision

__all__ = ["nearest_others", "replace_by_neighbours"]


@torch.no_grad()
def nearest_others(indices: Int[Tensor, " P"], entries: Float[Tensor, "K D"], count: int) -> Int[Tensor, "P δ"]:
    """The `count` entries nearest to each given one, itself left out, the nearest first."""
    squares = entries.square().sum(dim=1)
    found = []
    with full_precision(entries.device.type):
        for some in torch.split(indices, max(1, vector.MAX_DISTANCES // len(entries))):
            distances = torch.addmm(squares, entries[some], entries.T, alpha=-2)
            distances.scatter_(1, some[:, None], torch.inf)
            found.append(distances.topk(count, dim=1, largest=False).indices)
    return torch.cat(found)


@torch.no_grad()
def replace_by_neighbours(
    quantizer: Quantizer,
    indices: Int[Tensor, "B h w"],
    *,
    probability: float,
    num_neighbours: int,
    generator: torch.Generator,
    own: Bool[Tensor, " all"] | None = None,
) -> Int[Tensor, "B h w"]:
    """Replace each index with a probability by one of its nearest others, all of these alike.

    Args:
        quantizer: with one index for each latent.
        indices: as encoded.
        probability: α.
        num_neighbours: δ; with fewer entries, all others.
        generator: on the CPU; what it draws depends on the grids' shape and number alone.
        own: which grids of a larger batch these are, if the draws are made for all of it, as all processes do alike;
            on the CPU.
    """
    assert quantizer.indices_per_latent == 1, "an entry of a sum has no place of its own among the others"
    count = min(num_neighbours, quantizer.codebook_size - 1)
    shape = indices.shape if own is None else (len(own), *indices.shape[1:])
    replaced = torch.rand(shape, generator=generator) < probability
    rank = torch.randint(count, shape, generator=generator)
    if own is not None:
        replaced, rank = replaced[own], rank[own]
    every = torch.arange(quantizer.codebook_size, device=indices.device)
    entries = rearrange(quantizer.decode(rearrange(every, "k -> 1 1 k")), "1 d 1 k -> k d")
    others = nearest_others(indices.flatten(), entries, count)
    chosen = others.gather(1, rank.to(indices.device).view(-1, 1)).view_as(indices)
    return torch.where(replaced.to(indices.device), chosen, indices)
