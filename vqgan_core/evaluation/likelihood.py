"""What a prior's negative log-likelihood is measured against, and in which unit images are compared.

Axes: `B batch, N tokens, K entries`.

The baseline is the best model that knows nothing but positions: at each of the N places, the frequencies of the K codes
in the training tokens. A prior that is no better has learned which codes are common where, and nothing of how they go
together.

Departure: the smoothing of the counts is not fixed. It is chosen for the smallest NLL on the very tokens that are
scored, which favours the baseline; with one-for-every-code smoothing a small corpus would make any prior look good.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["bits_per_dimension", "unigram_nll"]

_PSEUDO_COUNTS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)


def unigram_nll(train: Int[Tensor, "T N"], validation: Int[Tensor, "V N"], codebook_size: int) -> float:
    """NLL of validation tokens under per-position code frequencies of training tokens, in nats a token.

    Raises:
        ValueError: a set is empty, grids differ, or an index is not in the codebook.
    """
    for name, tokens in (("training", train), ("validation", validation)):
        if tokens.ndim != 2 or not tokens.numel() or tokens.shape[1] != train.shape[1]:
            raise ValueError(f"expected {name} tokens of shape (records, {train.shape[-1]}), got {tuple(tokens.shape)}")
        if int(tokens.min()) < 0 or int(tokens.max()) >= codebook_size:
            raise ValueError(f"{name} tokens hold indices outside of 0 … {codebook_size - 1}")
    counts = _counts_at_validation(train, validation)
    return min(_smoothed_nll(counts, len(train), codebook_size, alpha) for alpha in _PSEUDO_COUNTS)


def bits_per_dimension(nats_per_token: Float[Tensor, " n"], *, num_tokens: int, num_values: int) -> Float[Tensor, " n"]:
    """Bits that each image's tokens cost, for each of its values (channels × height × width)."""
    return nats_per_token * (num_tokens / (num_values * math.log(2)))


def _counts_at_validation(train: Int[Tensor, "T N"], validation: Int[Tensor, "V N"]) -> Float[Tensor, "V N"]:
    """How often training has each validation token's code at its position, without a table of N × K."""
    columns = []
    for seen, asked in zip(train.long().T, validation.long().T, strict=True):
        frequencies = torch.bincount(seen, minlength=int(asked.max()) + 1)
        columns.append(frequencies[asked])
    return torch.stack(columns, dim=1).double()


def _smoothed_nll(counts: Float[Tensor, "V N"], num_records: int, codebook_size: int, alpha: float) -> float:
    probabilities = (counts + alpha) / (num_records + alpha * codebook_size)
    return -probabilities.log().mean().item()
