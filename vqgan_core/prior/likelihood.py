"""Units of the likelihood, and the baseline that a prior has to beat.

Axes: B batch, N tokens, K codebook entries, C×H×W the image.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def bits_per_dim(nll_nats_per_token: float, num_tokens: int, image_shape: tuple[int, int, int]) -> float:
    """Spread the code length of an image's tokens over its C·H·W numbers: N · nll / (ln 2 · C · H · W).

    This is what storing the *tokens* costs. It bounds nothing about pixels, for a reconstruction is not the image.

    Args:
        nll_nats_per_token: mean over tokens.
        num_tokens: N, tokens of one image.
        image_shape: (C, H, W).
    """
    return num_tokens * nll_nats_per_token / (math.log(2) * math.prod(image_shape))


class PositionUnigram:
    """The model that knows how often each token occurs at each position, and nothing else.

    Counts are smoothed by adding `smoothing` to each (Laplace's rule at 1), so that unseen tokens cost finitely much.

    Args:
        num_tokens: N.
        codebook_size: K.
        smoothing: what is added to every count.

    Raises:
        ValueError: smoothing that is not positive.
    """

    def __init__(self, num_tokens: int, codebook_size: int, smoothing: float = 1.0) -> None:
        if smoothing <= 0:
            raise ValueError(f"smoothing {smoothing}: must be positive, else an unseen token costs infinitely much")
        self.counts: Int[Tensor, "N K"] = torch.zeros(num_tokens, codebook_size, dtype=torch.int64)
        self.smoothing = smoothing

    def observe(self, tokens: Int[Tensor, "B N"]) -> None:
        """Count a batch of training tokens.

        Raises:
            ValueError: another N, or a token outside the codebook.
        """
        cells = self._cells(tokens)
        self.counts += torch.bincount(cells.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def nll(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Negative log-likelihood of every token in nats (fp64); raises as `observe`."""
        smoothed = self.counts.double() + self.smoothing
        costs = smoothed.sum(-1, keepdim=True).log() - smoothed.log()
        return costs.flatten()[self._cells(tokens)]

    def _cells(self, tokens: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        num_tokens, codebook_size = self.counts.shape
        if tokens.ndim != 2 or tokens.shape[1] != num_tokens:
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}: expected (batch, {num_tokens})")
        tokens = tokens.to("cpu", torch.int64)
        if tokens.numel() and (tokens.min() < 0 or tokens.max() >= codebook_size):
            raise ValueError(f"tokens {int(tokens.min())} … {int(tokens.max())}: allowed are 0 … {codebook_size - 1}")
        return tokens + torch.arange(num_tokens) * codebook_size


def unigram_nll(train: Int[Tensor, "B N"], validation: Int[Tensor, "M N"], codebook_size: int) -> float:
    """Mean nats a validation token under per-position frequencies of the training tokens, Laplace smoothed."""
    baseline = PositionUnigram(train.shape[1], codebook_size)
    baseline.observe(train)
    return float(baseline.nll(validation).mean())
