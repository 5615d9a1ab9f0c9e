"""Sampling, against a full forward pass for every token, and against a cache as one writes it first.

`python -m benchmarks sampling` prints tokens a second with and without a cache, and which share of what memory
bandwidth allows that is; so does `python -m benchmarks.sampling`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

import torch
from torch import nn

from benchmarks.device import DEVICE
from benchmarks.pairs import Pair
from benchmarks.plain import PlainPrior
from benchmarks.targets import SAMPLE, SAMPLE_CACHED
from vqgan_core import prior as priors
from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec, sized_prior
from vqgan_core.prior import Prior, prior_cost, sample_tokens
from vqgan_core.prior.decoder import Decoder

ENTRIES, CLASSES = 1024, 10
NO_CACHE, CACHE = "no cache", "a cache"
#: Priors, images at once, and the plain way that they are set against. Weights of 20m and more stay in no cache.
SIZES = (
    (("5m", 2, NO_CACHE), ("20m", 4, CACHE), ("110m", 4, CACHE))
    if DEVICE.type == "cpu"
    else (("110m", 16, NO_CACHE), ("340m", 16, CACHE))
)
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
    for size, batch, baseline in SIZES:
        for precision in ("fp32", "fp16"):
            yield _gpt(size, batch, baseline, precision)
    for name, config in OTHERS.items():
        yield _other(name, config)


def _gpt(size: str, batch: int, baseline: str, precision: str) -> Pair:
    config, spec, labels = sized_prior(size), _spec(16), torch.arange(batch, device=DEVICE) % CLASSES
    given = {} if precision == "fp32" else {"precision": precision}  # which an older checkout, as a peer, does not know
    with torch.device("meta"):
        moved_bytes = bytes_per_step(Prior(config, spec), batch, precision)
    return Pair(
        name=f"sample, gpt {size}, {spec.num_tokens} tokens, batch {batch}, {precision}; {baseline}",
        unit="tokens/s",
        count=batch * spec.num_tokens,
        ours=_when_called(lambda: _drawing(_prior(config, spec), labels, given)),
        plain=_when_called(lambda: _plainly(config, spec, labels, baseline)),
        flops=batch * prior_cost(config, spec).sampling_flops_per_image(),
        moved_bytes=spec.num_tokens * moved_bytes,
        target=SAMPLE if baseline == NO_CACHE else SAMPLE_CACHED,
        repeats=3,
    )


def _other(name: str, config: PriorConfig) -> Pair:
    spec, labels = _spec(OTHERS_SIDE), torch.arange(OTHERS_BATCH, device=DEVICE) % CLASSES
    return Pair(
        name=f"sample, {name}, {spec.num_tokens} tokens, batch {OTHERS_BATCH}; {NO_CACHE}",
        unit="tokens/s",
        count=OTHERS_BATCH * spec.num_tokens,
        ours=_when_called(lambda: _drawing(_prior(config, spec), labels, {})),
        plain=_when_called(lambda: partial(_without_cache, _prior(config, spec), labels)),
    )


def _when_called(make: Callable[[], Callable[[], object]]) -> Callable[[], object]:
    """Work that is made at its first call, which does not count: a pair that is left out costs nothing."""
    made = cache(make)

    def work() -> object:
        return made()()

    return work


def _drawing(prior: Prior, labels: torch.Tensor, given: Mapping[str, str]) -> Callable[[], object]:
    """What the stage does for each of its batches; an older checkout, as a peer, lays its weights out for each."""
    config, sampler = SamplingConfig.model_validate(given), getattr(priors, "Sampler", None)
    if sampler is None:
        return partial(sample_tokens, prior, labels, range(len(labels)), config)
    compiled = DEVICE.type == "cuda" and isinstance(prior.transformer, Decoder)  # on a CPU it gains nothing
    return partial(sampler(prior, config, compiled=compiled).sample, labels, range(len(labels)))


def _plainly(config: PriorConfig, spec: TokenSpec, labels: torch.Tensor, baseline: str) -> Callable[[], object]:
    plain = PlainPrior(ENTRIES, CLASSES, spec.num_tokens, config.num_layers, config.num_heads, config.width)
    plain = plain.to(DEVICE).eval()
    return partial(plain.sample if baseline == NO_CACHE else plain.sample_with_cache, labels)


def _spec(side: int) -> TokenSpec:
    return TokenSpec(codebook_size=ENTRIES, height=side, width=side, num_classes=CLASSES)


def _prior(config: PriorConfig, spec: TokenSpec) -> Prior:
    torch.manual_seed(0)
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
