"""What a prior costs before it is built: parameters and floating point operations.

N tokens of an image, T = P + N - 1 positions with its condition of P elements, D width, L layers, K codebook entries. A
multiply-add is two
operations; norms, activations, softmax and the optimiser are left out (below 1 % at usual sizes). Matrices: each of P
parameters costs 2 a token forward and 4 backward, hence 6·P (Kaplan et al. 2020, §2.1); embeddings are looked up, not
multiplied. Attention: scores and weighted values take 4·D a key forward in each layer, and a position sees (T + 1) / 2
keys on average. The head works at the N positions that predict. What the condition costs is spread over the N tokens.

A grid that is larger than the prior's is drawn in windows (`sliding_cost`). Where a window moves, a transformer reads
its condition and the tokens before the new one again; convolutions compute the whole window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.prior.architectures import prefix_length
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.model import Prior
from vqgan_core.prior.windows import window_reads

BACKWARD_FACTOR = 3
"""Forward and backward cost three times forward."""


@dataclass(frozen=True)
class PositionCost:
    """Operations of one element of a sequence, forward."""

    matrices: float
    """Of all layers, but for attention."""
    key: float
    """Of all layers' attention, for each key that the element sees."""
    head: float
    """Of its logits."""


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
    position: PositionCost
    """Of what that consists."""

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
    position = PositionCost(2.0 * (matrices - head), 4.0 * config.width * num_attentions, 2.0 * head)
    layers = (position.matrices + position.key * (length + 1) / 2) * length / spec.num_tokens
    return PriorCost(
        num_parameters=sum(parameter.numel() for parameter in prior.parameters()),
        num_matrix_parameters=matrices,
        num_tokens=spec.num_tokens,
        forward_flops_per_token=layers + position.head,
        position=position,
    )


def sliding_cost(config: PriorConfig, spec: TokenSpec, grid: tuple[int, int]) -> float:
    """Operations of drawing one image on a larger grid, without guidance; raises as `Prior` and `sliding_windows`.

    Args:
        config: of the prior.
        spec: its tokens.
        grid: rows and columns of the image's tokens.
    """
    cost, num_prefix = prior_cost(config, spec).position, prefix_length(config, spec)
    is_sequence = config.architecture in ("gpt", "modern")
    flops = 0.0
    for read in window_reads(grid, (spec.height, spec.width)):
        end = num_prefix + read.num_before if is_sequence else read.num_before + 1
        if read.is_new and not is_sequence:
            end, count = spec.num_tokens, spec.num_tokens
        else:
            count = end if read.is_new else 1
        seen = count * (2 * end - count + 1) / 2  # keys: end of the last position, one less of each before it
        flops += count * cost.matrices + seen * cost.key + cost.head
    return flops
