"""A stage that is in the store already, against computing it again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from benchmarks.pairs import Pair
from datasets.store import Store
from tasks import shard
from tasks.config import PipelineConfig
from tasks.stage import execute


def pairs() -> Iterator[Pair]:
    """Sharding the digits."""
    config = PipelineConfig.preset("digits", {"store.url": "memory://cached-benchmark"})
    store, fresh = Store.open(config.store), count()
    execute(shard.request(config.shard), store)

    def again() -> None:
        execute(shard.request(config.shard), Store.open(f"memory://cached-benchmark-{next(fresh)}"))

    yield Pair(
        "shard stage, served from the store", "runs/s", 1, lambda: execute(shard.request(config.shard), store), again
    )
