"""How fast memory is, by a copy, and how many tokens a second that allows.

A step of sampling reads every weight that is multiplied (and, of the tables, a row) and the keys and values of all
earlier positions, and does little with them: no sampler of one batch can be faster than memory delivers these.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from vqgan_core.prior import Prior
from vqgan_core.prior.decoder import Decoder

COPY_BYTES = 256 << 20
REPEATS = 7


def copied_bytes_per_second() -> float:
    """Bytes read and written a second by a copy that no cache holds; the median of some."""
    source = torch.zeros(COPY_BYTES // 4)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return 2 * COPY_BYTES / statistics.median(seconds)


def bytes_per_step(prior: Prior, batch_size: int) -> float:
    """Bytes that drawing one more token of each image has to read, on average over an image."""
    tables = {id(module.weight) for module in prior.modules() if isinstance(module, nn.Embedding)}
    weights = sum(p.numel() * p.element_size() for p in prior.parameters() if id(p) not in tables)
    if not isinstance(prior.transformer, Decoder):
        return weights
    decoder = prior.transformer
    position = (
        2 * len(decoder.layers) * decoder.num_cached_heads * decoder.head_width * decoder.head.weight.element_size()
    )
    return weights + batch_size * position * prior.max_length / 2
