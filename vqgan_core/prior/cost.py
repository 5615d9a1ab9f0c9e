"""What a prior costs before it is built: parameters and floating point operations.

N tokens of an image, T = P + N - 1 positions with its condition of P elements, D width, L layers, K codebook entries. A
multiply-add is two
operations; norms, activations, softmax and the optimiser are left out (below 1 % at usual sizes). Matrices: each of P
parameters costs 2 a token forward and 4 backward, hence 6·P (Kaplan et al. 2020, §2.1); embeddings are looked up, not
multiplied. Attention: scores and weighted values take 4·D a key forward in each layer, and a position sees (T + 1) / 2
keys on average. The head works at the N positions that predict. What the condition costs is spread over the N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.model import Prior

BACKWARD_FACTOR = 3
"""Forward and backward cost three times forward."""


@dataclass(frozen=True)
class PriorCost:
    """Costs of one prior."""

    num_parameters: int
    """All of them."""
    num_matrix_parameters: int
    """Those that are multiplied with every token: linear layers and the head."""
    num_tokens: int
    """N."""
    forward_flops_per_token: float
    """With its share of the condition's. Also the cost of drawing a token with a cache; guidance doubles it."""

    @property
    def training_flops_per_token(self) -> float:
        """Forward and backward of one token."""
        return BACKWARD_FACTOR * self.forward_flops_per_token

    @property
    def training_flops_per_image(self) -> float:
        """Forward and backward of one image's tokens."""
        return self.num_tokens * self.training_flops_per_token

    def sampling_flops_per_image(self, guidance: float = 1.0) -> float:
        """Drawing one image's tokens with a cache."""
        return self.num_tokens * self.forward_flops_per_token * (1 if guidance == 1 else 2)


def prior_cost(config: PriorConfig, spec: TokenSpec) -> PriorCost:
    """Count a prior's parameters and operations without allocating it; raises as `Prior`."""
    with torch.device("meta"):
        prior = Prior(config, spec)
    kinds = (nn.Linear, nn.Conv2d)  # a convolution's weights are multiplied once at each cell, too
    matrices = sum(module.weight.numel() for module in prior.modules() if isinstance(module, kinds))
    is_sequence = isinstance(prior.transformer, Decoder)  # convolutions see the condition as a map of N cells
    head, length = prior.transformer.head.weight.numel(), prior.max_length if is_sequence else spec.num_tokens
    num_attentions = 0 if config.architecture == "pixelcnn" else config.num_layers
    attention = num_attentions * 4 * config.width * (length + 1) / 2
    layers = (2 * (matrices - head) + attention) * length / spec.num_tokens
    return PriorCost(
        num_parameters=sum(parameter.numel() for parameter in prior.parameters()),
        num_matrix_parameters=matrices,
        num_tokens=spec.num_tokens,
        forward_flops_per_token=layers + 2 * head,
    )
