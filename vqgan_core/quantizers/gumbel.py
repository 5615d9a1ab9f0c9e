"""Gumbel-softmax quantisation: each position draws an entry from a categorical distribution.

Axes: B batch, D width of entries, L width of latents (D, unless told), h×w grid, K entries.

    y = softmax((logits + g) / τ),   quantized = Σ_k y_k e_k,   loss = w Σ_k p_k log(K p_k),   p = softmax(logits)

Source: arXiv 1611.01144 eq. 2, arXiv 2102.12092 §2.1; terms and places as in the original's GumbelQuantize (the KL
term has neither noise nor temperature, and 1e-10 inside the logarithm). Departures:

- Noise is drawn in training only. The original draws it in eval too, and encodes the same image to other indices each
  time; here `encode`, and forward outside training, take the most likely entry.
- A training run draws each record's noise from a seed of its own, so that it does not depend on how a batch is divided
  into pieces and among processes.
- Straight-through gathers the entry of the largest y instead of multiplying with one-hot rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqgan_core.config import GumbelQuantizerConfig
from vqgan_core.quantizers.base import Quantized, Quantizer
from vqgan_core.quantizers.precision import full_precision
from vqgan_core.quantizers.vector import gather

__all__ = ["GumbelQuantizer", "gumbel_noise", "uniform_divergence"]


def gumbel_noise(like: Float[Tensor, "B K h w"], seed: int | None = None) -> Float[Tensor, "B K h w"]:
    """Standard Gumbel noise: minus the logarithm of an exponential variable.

    Args:
        like: the logits.
        seed: of the first record's noise, the next one's is one more; None: the global generator.
    """
    noise = torch.empty_like(like)
    if seed is None:
        return -noise.exponential_().log()
    generator = torch.Generator(like.device)
    for number, record in enumerate(noise):
        record.exponential_(generator=generator.manual_seed(seed + number))
    return -noise.log()


def uniform_divergence(logits: Float[Tensor, "B K h w"]) -> Float[Tensor, ""]:
    """KL divergence of the positions' distributions from the uniform one, averaged over positions."""
    probabilities = logits.softmax(dim=1)
    return (probabilities * torch.log(probabilities * logits.shape[1] + 1e-10)).sum(dim=1).mean()


class GumbelQuantizer(Quantizer):
    """Logits by a 1×1 convolution, a relaxed draw, a sum of entries.

    Args:
        codebook_size: K.
        codebook_dim: D.
        config: weight of the KL term, straight-through; its temperature schedule is the training's affair.
        latent_dim: L; None: D.
    """

    def __init__(
        self, codebook_size: int, codebook_dim: int, config: GumbelQuantizerConfig, latent_dim: int | None = None
    ) -> None:
        super().__init__(codebook_size, codebook_dim)
        self.config = config
        self.temperature = config.temperature_start
        """τ of the next forward: a function of the step, and no part of the state."""
        self.kl_factor = 1.0
        """How much of the KL term counts in the next forward: a function of the step, too."""
        self.noise_seed: int | None = None
        """Seed of the noise of the next forward's first record; None: the global generator."""
        self.project = nn.Conv2d(latent_dim or codebook_dim, codebook_size, 1)
        self.codebook = nn.Parameter(torch.empty(codebook_size, codebook_dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw projection and entries (standard normal) anew."""
        self.project.reset_parameters()
        self.codebook.normal_()

    def forward(self, latents: Float[Tensor, "B L h w"]) -> Quantized:
        """Quantize latents, with a random draw in training; `quantized` has their dtype."""
        with torch.autocast(latents.device.type, enabled=False):
            logits = self.logits(latents)
            if self.training:
                quantized, indices = self.draw(logits, gumbel_noise(logits, self.noise_seed))
            else:
                indices = logits.argmax(dim=1)
                quantized = self.decode(indices)
            loss = self.kl_factor * self.config.kl_weight * uniform_divergence(logits)
        return Quantized(quantized.to(latents.dtype), indices, loss)

    def encode(self, latents: Float[Tensor, "B L h w"]) -> Int[Tensor, "B h w"]:
        """The indices of the most likely entries."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.logits(latents).argmax(dim=1)

    def decode(self, indices: Int[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """The entries of indices, fp32."""
        return gather(indices, self.codebook)

    def logits(self, latents: Float[Tensor, "B L h w"]) -> Float[Tensor, "B K h w"]:
        """Unnormalised log probabilities of the entries, fp32."""
        with full_precision(latents.device.type):
            # As a matrix product: TF32 of convolutions has a switch of its own.
            weight = rearrange(self.project.weight, "k l 1 1 -> k l")
            rows = F.linear(rearrange(latents.float(), "b l h w -> b h w l"), weight, self.project.bias)
        return rearrange(rows, "b h w k -> b k h w")

    def draw(
        self, logits: Float[Tensor, "B K h w"], noise: Float[Tensor, "B K h w"]
    ) -> tuple[Float[Tensor, "B D h w"], Int[Tensor, "B h w"]]:
        """A relaxed draw at the present temperature: quantized and indices."""
        soft = ((logits + noise) / self.temperature).softmax(dim=1)
        indices = soft.argmax(dim=1)
        if not self.config.straight_through:
            return einsum(soft, self.codebook, "b k h w, k d -> b d h w"), indices
        relaxed = einsum(soft, self.codebook.detach(), "b k h w, k d -> b d h w")
        return self.decode(indices) + (relaxed - relaxed.detach()), indices
