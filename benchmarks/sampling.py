"""Sampling, against a full forward pass for every token, and against a cache as one writes it first.

`python -m benchmarks sampling` prints tokens a second with and without a cache, and which share of what memory
bandwidth allows that is; so does `python -m benchmarks.sampling`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import nn

from benchmarks.device import DEVICE
from benchmarks.pairs import Pair
from benchmarks.plain import PlainPrior
from benchmarks.targets import SAMPLE, SAMPLE_CACHED
from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec, sized_prior
from vqgan_core.prior import Prior, prior_cost, sample_tokens
from vqgan_core.prior.decoder import Decoder

ENTRIES, CLASSES = 1024, 10
#: The target's two priors. The larger one's weights stay in no cache.
SIZES = {"no cache": ("5m", 2), "a cache": ("20m", 4)} if DEVICE.type == "cpu" else {
    "no cache": ("110m", 16), "a cache": ("340m", 16)
}  # fmt: skip
SNAIL = {"architecture": "pixelsnail", "num_layers": 2, "num_res_blocks": 4}
CNN = {"architecture": "pixelcnn", "num_layers": 8}
#: Others, against themselves without a cache: name → the prior.
OTHERS: Mapping[str, PriorConfig] = {
    "modern 1m": sized_prior("1m", architecture="modern"),
    "pixelsnail": sized_prior("1m", width=64, **SNAIL),
    "pixelcnn": sized_prior("1m", width=64, **CNN),
}
OTHERS_BATCH, OTHERS_SIDE = 4, 8


def pairs() -> Iterator[Pair]:
    """GPT in its sizes and precisions, then each other architecture."""
    for baseline in SIZES:
        for precision in ("fp32", "fp16"):
            yield _gpt(baseline, precision)
    for name, config in OTHERS.items():
        prior = _prior(config, OTHERS_SIDE)
        labels = torch.arange(OTHERS_BATCH, device=DEVICE) % CLASSES
        yield Pair(
            name=f"sample, {name}, {prior.spec.num_tokens} tokens, batch {OTHERS_BATCH}; no cache",
            unit="tokens/s",
            count=OTHERS_BATCH * prior.spec.num_tokens,
            ours=partial(sample_tokens, prior, labels, range(OTHERS_BATCH), SamplingConfig()),
            plain=partial(_without_cache, prior, labels),
        )


def _gpt(baseline: str, precision: str) -> Pair:
    size, batch = SIZES[baseline]
    config, side = sized_prior(size), 16
    prior = _prior(config, side)
    plain = PlainPrior(ENTRIES, CLASSES, side**2, config.num_layers, config.num_heads, config.width).to(DEVICE).eval()
    labels = torch.arange(batch, device=DEVICE) % CLASSES
    given = {} if precision == "fp32" else {"precision": precision}  # which an older checkout, as a peer, does not know
    cost = prior_cost(config, prior.spec)
    return Pair(
        name=f"sample, gpt {size}, {prior.spec.num_tokens} tokens, batch {batch}, {precision}; {baseline}",
        unit="tokens/s",
        count=batch * prior.spec.num_tokens,
        ours=lambda: sample_tokens(prior, labels, range(batch), SamplingConfig.model_validate(given)),
        plain=partial(plain.sample if baseline == "no cache" else plain.sample_with_cache, labels),
        flops=batch * cost.sampling_flops_per_image(),
        moved_bytes=prior.spec.num_tokens * bytes_per_step(prior, batch, precision),
        target=SAMPLE if baseline == "no cache" else SAMPLE_CACHED,
        repeats=3,
    )


def _prior(config: PriorConfig, side: int) -> Prior:
    torch.manual_seed(0)
    spec = TokenSpec(codebook_size=ENTRIES, height=side, width=side, num_classes=CLASSES)
    return Prior(config, spec).to(DEVICE).eval()


def bytes_per_step(prior: Prior, batch_size: int, precision: str) -> float:
    """Bytes that drawing one more token of each image has to read, on average over an image.

    All weights that are multiplied, and keys and values of all earlier positions; those are fp32.
    """
    network = prior.transformer
    assert isinstance(network, Decoder)
    weights = sum(module.weight.numel() for module in network.modules() if isinstance(module, nn.Linear))
    position = 2 * len(network.layers) * network.num_cached_heads * network.head_width
    return (2 if precision == "fp16" else 4) * weights + 4 * batch_size * position * prior.max_length / 2


@torch.no_grad()
def _without_cache(prior: Prior, labels: torch.Tensor) -> torch.Tensor:
    tokens = torch.zeros(len(labels), prior.spec.num_tokens, dtype=torch.int64, device=DEVICE)
    for step in range(prior.spec.num_tokens):
        probabilities = prior(tokens, labels)[:, step].softmax(-1)
        tokens[:, step] = torch.multinomial(probabilities, 1)[:, 0]
    return tokens


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["sampling", *sys.argv[1:]]))
