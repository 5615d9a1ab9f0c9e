"""Sampling with the static key-value cache, against a full forward pass for every token."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.pairs import Pair
from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, sample_tokens

NUM_IMAGES = 4


def pairs() -> Iterator[Pair]:
    """A small prior on 64 and on 256 tokens."""
    for side in (8, 16):
        torch.manual_seed(0)
        spec = TokenSpec(codebook_size=512, height=side, width=side, num_classes=10)
        prior = Prior(PriorConfig(num_layers=4, num_heads=4, width=128), spec).eval()
        labels = torch.arange(NUM_IMAGES) % 10
        yield Pair(
            name=f"sample, {spec.num_tokens} tokens, batch {NUM_IMAGES}",
            unit="tokens/s",
            count=NUM_IMAGES * spec.num_tokens,
            ours=lambda p=prior, y=labels: sample_tokens(p, y, range(NUM_IMAGES), SamplingConfig()),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            plain=lambda p=prior, y=labels: _without_cache(p, y),  # type: ignore[misc]  # as above
        )


@torch.no_grad()
def _without_cache(prior: Prior, labels: torch.Tensor) -> torch.Tensor:
    tokens = torch.zeros(len(labels), prior.spec.num_tokens, dtype=torch.int64)
    for step in range(prior.spec.num_tokens):
        probabilities = prior(tokens, labels)[:, step].softmax(-1)
        tokens[:, step] = torch.multinomial(probabilities, 1)[:, 0]
    return tokens
