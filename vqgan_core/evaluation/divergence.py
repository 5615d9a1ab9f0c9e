"""How different two token datasets are, seen through how often each code occurs.

Axes: K entries, R and S records of two sets, N tokens.

Jensen-Shannon divergence (Lin 1991, *Divergence measures based on the Shannon entropy*) in bits: 0 for equal
frequencies, 1 for sets that have no code in common. Two samples of one source never give 0, so beside it stands a
floor: the same between two sets of the same sizes into which all records were dealt at random. Whole records are dealt,
because the tokens of one image resemble each other.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["divergence_floor", "jensen_shannon", "per_code_divergence"]

FLOOR_DEALS = 5


def jensen_shannon(first: Int[Tensor, " K"], second: Int[Tensor, " K"]) -> float:
    """Divergence of two histograms in bits, 0 to 1.

    Raises:
        ValueError: other numbers of codes, or an empty histogram.
    """
    return float(per_code_divergence(first, second).sum().clamp(0, 1))


def per_code_divergence(first: Int[Tensor, " K"], second: Int[Tensor, " K"]) -> Float[Tensor, " K"]:
    """Each code's share of the divergence, in bits.

    Raises:
        ValueError: other numbers of codes, or an empty histogram.
    """
    if first.shape != second.shape:
        raise ValueError(f"histograms of {len(first)} and of {len(second)} codes cannot be compared")
    if not first.sum() or not second.sum():
        raise ValueError("an empty histogram has no frequencies")
    p, q = first.double() / first.sum(), second.double() / second.sum()
    middle = (p + q) / 2
    return (_times_log_ratio(p, middle) + _times_log_ratio(q, middle)) / 2


def divergence_floor(
    chunks: Iterable[Int[Tensor, "n N"]], sizes: tuple[int, int], codebook_size: int, *, seed: int = 0
) -> float:
    """Mean divergence of two sets of R and S records that are dealt at random from all of them.

    Args:
        chunks: tokens of all R + S records, some at a time.
        sizes: (R, S).
        codebook_size: K.
        seed: of the deals.
    """
    generator = torch.Generator().manual_seed(seed)
    is_first = torch.stack([torch.randperm(sum(sizes), generator=generator) < sizes[0] for _ in range(FLOOR_DEALS)])
    counts = torch.zeros(FLOOR_DEALS, 2, codebook_size, dtype=torch.int64)
    start = 0
    for chunk in chunks:
        for deal, mine in enumerate(is_first[:, start : start + len(chunk)]):
            for side, chosen in enumerate((mine, ~mine)):
                counts[deal, side] += torch.bincount(chunk[chosen].flatten(), minlength=codebook_size)
        start += len(chunk)
    return sum(jensen_shannon(*dealt) for dealt in counts) / FLOOR_DEALS


def _times_log_ratio(p: Tensor, middle: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p / middle.clamp(min=1e-300)).log2(), torch.zeros_like(p))
