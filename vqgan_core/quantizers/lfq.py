"""Lookup-free quantisation: the index is the signs of the latent.

Axes: B batch, D bits, h×w grid, N = B·h·w latents, K = 2^D entries, all corners of {-1, 1}^D.

The entropy loss asks for a sure choice of each latent and an even use of all entries:

    E_z H[p(·|z)] - γ H[E_z p(·|z)],   p(c|z) = softmax_c(2 z·c / τ)

Source: arXiv 2310.05737 §3.1. What is computed here is exact, without any N × K array: on corners, p(c|z) is a product
over bits of σ(±4 z_i / τ). So the first entropy is a sum over bits; and for the second, splitting the bits into a high
and a low half makes the mean of p one matrix product of an N × 2^⌈D/2⌉ and an N × 2^⌊D/2⌋ array. At 4096 latents and 14
bits these hold 4 MiB, where an array of the definition holds 256.

Under gradient accumulation the second entropy is that of a piece, with several processes that of the piece of all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.config import LfqQuantizerConfig
from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.gradient import pass_gradient
from vqgan_core.quantizers.precision import full_precision

__all__ = ["LfqQuantizer", "choice_entropies"]


def choice_entropies(
    latents: Float[Tensor, "N D"], temperature: float, *, of_all_processes: bool = False
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The mean entropy of the latents' soft choices, and the entropy of their mean choice, in nats.

    Args:
        latents: of this process.
        temperature: τ.
        of_all_processes: take the mean choice over all processes' latents; all of them have to call this then.
    """
    logits = 4 * latents / temperature
    log_one, log_zero = F.logsigmoid(logits), F.logsigmoid(-logits)
    of_each = -(log_one.exp() * log_one + log_zero.exp() * log_zero).sum(dim=1).mean()
    middle = latents.shape[1] // 2
    low = _corner_probabilities(log_zero[:, :middle], log_one[:, :middle])
    high = _corner_probabilities(log_zero[:, middle:], log_one[:, middle:])
    with full_precision(latents.device.type):
        mean = high.T @ low / len(latents)
    mean = distributed.mean(mean) if of_all_processes else mean
    return of_each, torch.special.entr(mean.clamp(min=1e-30)).sum()


def _corner_probabilities(log_zero: Float[Tensor, "N d"], log_one: Float[Tensor, "N d"]) -> Float[Tensor, "N 2^d"]:
    """The probability of each corner of a few bits; the first bit counts 1, the next 2."""
    logs = log_zero.new_zeros(len(log_zero), 1)
    for bit in range(log_zero.shape[1]):
        logs = torch.cat([logs + log_zero[:, bit, None], logs + log_one[:, bit, None]], dim=1)
    return logs.exp()


class LfqQuantizer(Quantizer):
    """Signs, with commitment and entropy loss; bit i of an index is 1 where channel i is positive.

    Args:
        codebook_size: K = 2^D.
        codebook_dim: D.
        config: weights and temperature of the losses.
    """

    def __init__(self, codebook_size: int, codebook_dim: int, config: LfqQuantizerConfig) -> None:
        config.check_codebook(codebook_size, codebook_dim)
        super().__init__(codebook_size, codebook_dim)
        self.config = config

    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize latents; `quantized` has their dtype."""
        config = self.config
        with torch.autocast(latents.device.type, enabled=False):
            z = latents.float()
            indices = self.encode(z)
            corners = self.decode(indices)
            loss = config.commitment_weight * F.mse_loss(z, corners)
            if config.entropy_weight:
                rows = rearrange(z, "b d h w -> (b h w) d")
                of_each, of_mean = choice_entropies(rows, config.temperature, of_all_processes=self.training)
                loss = loss + config.entropy_weight * (of_each - config.diversity_weight * of_mean)
            quantized = pass_gradient("straight_through", z, corners)
        return Quantized(quantized.to(latents.dtype), indices, loss)

    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        """The signs of latents, as a number."""
        return ((latents > 0).long() << self._bits(latents.device)).sum(dim=1)

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The corners of indices, fp32."""
        return (indices[:, None] >> self._bits(indices.device) & 1).float() * 2 - 1

    def _bits(self, device: torch.device) -> Int[Tensor, "D 1 1"]:
        return rearrange(torch.arange(self.codebook_dim, device=device), "d -> d 1 1")
