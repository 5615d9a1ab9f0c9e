"""Sampling with a cache, against a full forward pass for every token, and against what memory allows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial

import torch

from benchmarks.bandwidth import bytes_per_step, copied_bytes_per_second
from benchmarks.pairs import Pair
from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec, sized_prior
from vqgan_core.prior import Prior, sample_tokens

NUM_IMAGES = 4
SNAIL = {"architecture": "pixelsnail", "num_layers": 2, "num_res_blocks": 4}
CNN = {"architecture": "pixelcnn", "num_layers": 8}
#: Name → the prior, and the side of its grid. The weights of the largest one stay in no cache.
PRIORS: Mapping[str, tuple[PriorConfig, int]] = {
    "gpt 1m": (sized_prior("1m"), 8),
    "gpt 1m, longer": (sized_prior("1m"), 16),
    "modern 1m": (sized_prior("1m", architecture="modern"), 8),
    "pixelsnail": (sized_prior("1m", width=64, **SNAIL), 8),
    "pixelcnn": (sized_prior("1m", width=64, **CNN), 8),
    "gpt 20m": (sized_prior("20m"), 8),
}


def pairs() -> Iterator[Pair]:
    """Small priors of each architecture, and a larger one, beside what a copy says of the memory."""
    bandwidth = copied_bytes_per_second()
    sys.stdout.write(f"memory: {bandwidth / 1e9:.1f} GB/s read and written by a copy\n")
    for name, (config, side) in PRIORS.items():
        yield _pair(name, config, side, bandwidth)


def _pair(name: str, config: PriorConfig, side: int, bandwidth: float) -> Pair:
    torch.manual_seed(0)
    spec = TokenSpec(codebook_size=512, height=side, width=side, num_classes=10)
    prior = Prior(config, spec).eval()
    labels = torch.arange(NUM_IMAGES) % 10
    return Pair(
        name=f"sample, {name}, {spec.num_tokens} tokens, batch {NUM_IMAGES}",
        unit="tokens/s",
        count=NUM_IMAGES * spec.num_tokens,
        ours=partial(sample_tokens, prior, labels, range(NUM_IMAGES), SamplingConfig()),
        plain=partial(_without_cache, prior, labels),
        bound=NUM_IMAGES * bandwidth / bytes_per_step(prior, NUM_IMAGES),
    )


@torch.no_grad()
def _without_cache(prior: Prior, labels: torch.Tensor) -> torch.Tensor:
    tokens = torch.zeros(len(labels), prior.spec.num_tokens, dtype=torch.int64)
    for step in range(prior.spec.num_tokens):
        probabilities = prior(tokens, labels)[:, step].softmax(-1)
        tokens[:, step] = torch.multinomial(probabilities, 1)[:, 0]
    return tokens
