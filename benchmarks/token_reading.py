"""Training batches of tokens from a token dataset, against encoding the images in every step, as the original does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from benchmarks.pairs import Pair
from datasets.store import Store
from datasets.tokens import TokenDataset
from tasks import encode, shard, train_tokenizer
from tasks.config import PipelineConfig
from tasks.models import load_tokenizer
from tasks.stage import execute

BATCH, NUM_BATCHES = 64, 10


def pairs() -> Iterator[Pair]:
    """The digits preset's tokens."""
    overrides = {
        "store.url": "memory://token-benchmark",
        "tokenizer.training.num_steps": 1,
        "tokenizer.training.num_validation_records": 1,
    }
    config = PipelineConfig.preset("digits", overrides)
    store = Store.open(config.store)
    corpus = store.get(execute(shard.request(config.shard), store))
    tokenizer = store.get(execute(train_tokenizer.request(config.tokenizer, corpus), store))
    tokens = TokenDataset.open(store.get(execute(encode.request(config.encode, corpus, tokenizer), store)))
    model, batches = load_tokenizer(tokenizer, torch.device("cpu")), tokens.batches("train", BATCH, seed=0)
    images = torch.rand(BATCH, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def encoded() -> None:
        with torch.no_grad():
            for _ in range(NUM_BATCHES):
                model.encode(images)

    yield Pair(
        "training batches of tokens", "records/s", BATCH * NUM_BATCHES,
        lambda: list(islice(batches(0), NUM_BATCHES)), encoded,
    )  # fmt: skip
