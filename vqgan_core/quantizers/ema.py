"""Vector quantisation with a codebook of moving averages instead of gradients.

Axes: B batch, D width, h×w grid, M chosen vectors of a step, K entries.

    N_i ← γ N_i + (1 - γ) n_i,   m_i ← γ m_i + (1 - γ) Σ_j z_ij,   e_i = m_i / N_i

n_i is how many of the step's vectors z_ij chose entry i.

Source: arXiv 1711.00937 eq. 6-8 and appendix A.1. Departures:

- Averages move once an optimiser step, from the whole batch of all processes, and not in forward: there, gradient
  accumulation and activation checkpointing move them too often.
- N starts at 1 and m at the entry, so that an entry that is not chosen stays where it is. With N = 0, as others begin,
  the smoothing's ε throws it far away.
- Laplace smoothing of N, so that no count reaches zero: N_i' = (N_i + ε) / (N + K ε) · N with N = Σ N_i.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan_core import distributed
from vqgan_core.config import EmaQuantizerConfig, ResidualQuantizerConfig
from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.gradient import pass_gradient
from vqgan_core.quantizers.vector import gather, search

__all__ = ["AveragedCodebook", "EmaQuantizer"]


class AveragedCodebook(Quantizer):
    """A codebook that follows what chooses it; how latents choose is the subclass' affair.

    Args:
        codebook_size: K.
        codebook_dim: D.
        config: γ and ε.
    """

    num_chosen: Tensor
    sum_chosen: Tensor

    def __init__(
        self, codebook_size: int, codebook_dim: int, config: EmaQuantizerConfig | ResidualQuantizerConfig
    ) -> None:
        super().__init__(codebook_size, codebook_dim)
        self.config = config
        # A parameter without gradient, so that an average of the tokenizer's weights has one of the codebook as well.
        self.codebook = nn.Parameter(torch.empty(codebook_size, codebook_dim), requires_grad=False)
        self.register_buffer("num_chosen", torch.empty(codebook_size))
        self.register_buffer("sum_chosen", torch.empty(codebook_size, codebook_dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the entries anew, uniform in ±1/K, as if each had been chosen once."""
        self.codebook.uniform_(-1 / self.codebook_size, 1 / self.codebook_size)
        self.num_chosen.fill_(1.0)
        self.sum_chosen.copy_(self.codebook)

    def normalize(self, latents: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Latents, fp32, as they are compared with entries."""
        return latents.float()

    @torch.no_grad()
    def end_step(self, targets: Sequence[Float[Tensor, "B D h wR"]], indices: Sequence[Int[Tensor, "B h wR"]]) -> None:
        """Move the averages, and with them the entries."""
        counts, sums = torch.zeros_like(self.num_chosen), torch.zeros_like(self.sum_chosen)
        for vectors, chosen in zip(targets, indices, strict=True):
            rows = rearrange(vectors.float(), "b d h w -> (b h w) d")
            counts.index_add_(0, chosen.flatten(), torch.ones_like(rows[:, 0]))
            sums.index_add_(0, chosen.flatten(), rows)
        self.num_chosen.lerp_(distributed.total(counts), 1 - self.config.decay)
        self.sum_chosen.lerp_(distributed.total(sums), 1 - self.config.decay)
        self.codebook.copy_(self.sum_chosen / self._smoothed_counts()[:, None])

    @torch.no_grad()
    def restart(self, moved: Bool[Tensor, " K"], codebook: Float[Tensor, "K D"]) -> None:
        """Let moved entries begin as if each had been chosen once (a `RestartHook`)."""
        self.num_chosen.masked_fill_(moved, 1.0)
        self.sum_chosen.copy_(torch.where(moved[:, None], codebook, self.sum_chosen))

    def _smoothed_counts(self) -> Float[Tensor, " K"]:
        total, epsilon = self.num_chosen.sum(), self.config.smoothing
        return (self.num_chosen + epsilon) / (total + self.codebook_size * epsilon) * total


class EmaQuantizer(AveragedCodebook):
    """Nearest entry; the loss is the commitment term alone.

    Args:
        codebook_size: K.
        codebook_dim: D.
        config: β, γ, ε, gradient.
    """

    config: EmaQuantizerConfig

    def forward(self, latents: Float[Tensor, "B D h w"]) -> Quantized:
        """Quantize latents; `quantized` has their dtype."""
        with torch.autocast(latents.device.type, enabled=False):
            z = self.normalize(latents)
            indices = search(z, self.codebook)
            entries = self.decode(indices)
            loss = self.config.commitment_weight * F.mse_loss(z, entries)
            quantized = pass_gradient(self.config.gradient, z, entries)
        return Quantized(quantized.to(latents.dtype), indices, loss)

    def encode(self, latents: Float[Tensor, "B D h w"]) -> Int[Tensor, "B h w"]:
        """The indices of the nearest entries."""
        return search(self.normalize(latents), self.codebook)

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The entries of indices, fp32."""
        return gather(indices, self.codebook.detach())
