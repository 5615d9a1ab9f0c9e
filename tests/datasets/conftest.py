"""What the tests of the data side share: one pool of decoding children, and whole ingests in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from datasets.config import ShardConfig, ShardExecution
from datasets.files import MemoryFiles
from datasets.ingest.build import UnitResult, build_unit
from datasets.ingest.decode_pool import DecodePool
from datasets.ingest.finish import finish
from datasets.ingest.plan import plan_units
from datasets.sources import Listing, open_source


@pytest.fixture(scope="session")
def pool() -> Iterator[DecodePool]:
    """Two children that decode, for all tests: starting them costs a second."""
    with DecodePool(ShardExecution(num_processes=2, decode_timeout_seconds=30)) as pool:
        yield pool


@dataclass(frozen=True)
class Ingested:
    """A corpus in memory, and how it came about."""

    listing: Listing
    results: list[UnitResult]
    files: dict[str, bytes]
    summary: dict[str, Any]

    @property
    def artifact(self) -> MemoryFiles:
        return MemoryFiles(self.files)


def ingest(config: ShardConfig, pool: DecodePool) -> Ingested:
    """All of the shard stage, without the store."""
    source = open_source(config.source, config.pairs)
    listing = source.list()
    results = [build_unit(unit, source, config, pool) for unit in plan_units(listing, config)]
    finished = finish(listing, results, config)
    files = {name: data for result in results for name, data in result.files.items()}
    return Ingested(listing, results, files | finished.files, finished.summary)


@pytest.fixture(scope="session")
def digits(pool: DecodePool) -> Ingested:
    """The digits as a corpus of 32×32 grey images in three shards."""
    return ingest(ShardConfig(size_px=32, channels=1, images_per_shard=600), pool)
