"""Training batches from a corpus, against decoding the same PNG files with Pillow in a loop."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

import numpy as np
from PIL import Image

from benchmarks.pairs import Pair
from datasets.corpus import Corpus
from datasets.store import Store
from tasks import shard
from tasks.config import PipelineConfig
from tasks.stage import execute

BATCH, NUM_BATCHES = 64, 20


def pairs() -> Iterator[Pair]:
    """The digits, without and with the cache of decoded images."""
    config = PipelineConfig.preset("digits", ["store.url=memory://benchmark"])
    store = Store.open(config.store)
    corpus = Corpus.open(store.get(execute(shard.request(config.shard), store)))
    data = [corpus.record_bytes("train", i) for i in range(BATCH)]
    for title, cache_bytes in (("decoding", 0), ("from the cache", 1 << 30)):
        batches = corpus.batches("train", BATCH, seed=0, cache_bytes=cache_bytes)
        yield Pair(
            name=f"training batches, {title}",
            unit="images/s",
            count=BATCH * NUM_BATCHES,
            ours=lambda b=batches: list(islice(b(0), NUM_BATCHES)),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            plain=lambda: [[np.asarray(Image.open(io.BytesIO(png))) for png in data] for _ in range(NUM_BATCHES)],
        )
