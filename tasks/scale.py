"""What a corpus of N images takes, from unit costs that are measured where the plan is made.

Measured for about two seconds: listing and planning an entry, making a record of a photograph (a synthetic JPEG of
twice the stored side), sorting and writing its line of the index, and multiplying matrices. Everything else is counted:

    list     a request for every 1,000 keys
    read     a GET for every image (range requests of 8 MiB above that)
    write    a PUT for every shard, for a unit's three tables and its part.json; for each token file and its part.json
    look     eight requests of s3fs for each new part, to see twice that it is not there; one for each file on
             publication, and for those of a corpus once more when it is opened
    shards   a GET for every 8 MiB of them, once for each run that reads them through the cache of shards

Images of the source are not counted in GB: they stay where they are.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from datasets.config import ShardConfig
from datasets.ingest.canonical import Recipe, canonicalize
from datasets.ingest.plan import plan_units
from datasets.ingest.rows import INDEX_SCHEMA, to_parquet
from datasets.sorting import SortedRows
from datasets.sources.listing import Listing, SourceEntry
from tasks.config import PipelineConfig
from tasks.device_rate import expected_rate, matmul_flops_per_second
from tasks.estimates import Estimates, Extent
from vqgan_core.training import resolve_device

__all__ = ["LADDER", "UnitCosts", "measure_costs", "requests", "scale_rows"]

LADDER = (10**6, 10**7, 10**8, 10**9)
KEYS_A_PAGE = 1000
RANGE_BYTES = 8 << 20
TABLES_A_UNIT = 3
LOOKS_A_PART = 8
NUM_CLASSES = 1000
_SAMPLE = 20_000
_SECONDS_AN_HOUR = 3600
_MEASURED_SECONDS = 0.5


@dataclass(frozen=True)
class UnitCosts:
    """Seconds of one core, or of the device, for one image; bytes of its line in the index."""

    list_seconds: float
    ingest_seconds: float
    index_seconds: float
    index_bytes: float
    encode_seconds: float
    device: str


def measure_costs(config: PipelineConfig) -> UnitCosts:
    """Measure on this machine, for this config."""
    index_seconds, index_bytes = _index_cost()
    extent = Extent(10**6, 0, NUM_CLASSES)
    device = resolve_device(config.encode.execution.device)
    estimate = Estimates(config, extent).encode()
    rate = matmul_flops_per_second(device, config.encode.precision, config.encode.execution.num_threads)
    seconds = sum(flops / expected_rate(kind, device, rate) for kind, flops in estimate.flops.items())
    return UnitCosts(
        list_seconds=_list_cost(config.shard),
        ingest_seconds=_ingest_cost(config.shard),
        index_seconds=index_seconds,
        index_bytes=index_bytes,
        encode_seconds=seconds / extent.num_images,
        device=str(device),
    )


def scale_rows(config: PipelineConfig, counts: tuple[int, ...], costs: UnitCosts) -> list[dict[str, Any]]:
    """One row for each number of images: requests, GB, hours."""
    return [_row(config, count, costs) for count in counts]


def requests(config: PipelineConfig, num_images: int, shard_bytes: float) -> dict[str, int]:
    """Requests that sharding and encoding make, by sort; `shard_bytes` are those of all shards."""
    num_splits = 2 if config.shard.validation_fraction else 1
    num_units = math.ceil(num_images / config.shard.images_per_shard)
    files = num_units * (num_splits + TABLES_A_UNIT)
    token_files = num_units * num_splits * len(config.encode.all_views)
    return {
        "list": math.ceil(num_images / KEYS_A_PAGE),
        "read": num_images,
        "write": files + num_units + 2 * token_files,
        "look": LOOKS_A_PART * (num_units + token_files) + 2 * files + token_files,
        "shards": max(num_units * num_splits, math.ceil(shard_bytes / RANGE_BYTES)),
    }


def _row(config: PipelineConfig, count: int, costs: UnitCosts) -> dict[str, Any]:
    num_val = round(count * config.shard.validation_fraction)
    estimates = Estimates(config, Extent(count - num_val, num_val, NUM_CLASSES))
    corpus_bytes, token_bytes = estimates.shard().bytes, estimates.encode().bytes
    core_seconds = costs.list_seconds + costs.ingest_seconds + costs.index_seconds
    return {
        "images": count,
        "units": math.ceil(count / config.shard.images_per_shard),
        **requests(config, count, corpus_bytes),
        "corpus GB": corpus_bytes / 1e9,
        "tokens GB": token_bytes / 1e9,
        "index GB": count * costs.index_bytes / 1e9,
        "core hours": count * core_seconds / _SECONDS_AN_HOUR,
        f"encode hours ({costs.device})": count * costs.encode_seconds / _SECONDS_AN_HOUR,
    }


def _list_cost(config: ShardConfig) -> float:
    entries = [SourceEntry(f"folder/{i:012d}.jpg", i, f"etag:{i:032x}", f"{i % 1000}") for i in range(_SAMPLE)]
    started = time.process_time()
    for _ in plan_units(Listing(entries, origin="a measurement"), config):
        pass
    return (time.process_time() - started) / _SAMPLE


def _ingest_cost(config: ShardConfig) -> float:
    recipe, photo = Recipe.of(config), _photo(2 * config.size_px)
    return _per_call(lambda: canonicalize(photo, "photo.jpg", recipe))


def _index_cost() -> tuple[float, float]:
    generator = np.random.default_rng(0)
    digests = [generator.bytes(32).hex() for _ in range(2 * _SAMPLE)]
    started = time.process_time()
    rows = SortedRows(rows=(_index_row(i, digests[2 * i], digests[2 * i + 1]) for i in range(_SAMPLE)))
    size = len(to_parquet(rows, INDEX_SCHEMA))
    return (time.process_time() - started) / _SAMPLE, size / _SAMPLE


def _index_row(number: int, source: str, stored: str) -> tuple[Any, ...]:
    path, shard = f"folder/{number:012d}.jpg", f"../../parts/corpus/{'0' * 64}/train-{number // 2000:06d}.tar"
    return (source[:32], "train", shard, number * 20_000, 20_000, stored, "label", 256, 256, path, source)


def _photo(size_px: int) -> bytes:
    """Smooth noise, which compresses about as photographs do."""
    small = np.random.default_rng(0).integers(0, 256, (size_px // 8, size_px // 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((size_px * 4 // 3, size_px), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=90
    )
    return buffer.getvalue()


def _per_call(work: Callable[[], object]) -> float:
    """Seconds of processor time a call, over half a second of calls."""
    work()
    started, calls = time.process_time(), 0
    while time.process_time() - started < _MEASURED_SECONDS:
        work()
        calls += 1
    return (time.process_time() - started) / calls
