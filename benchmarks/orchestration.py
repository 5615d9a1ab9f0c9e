"""What Prefect costs: of a pipeline that is served from the cache, and of each shard that is handed to a worker.

    python -m benchmarks orchestration

Shards do nothing, and clusters are started before: what is left is handing out, and the states of tasks in the server's
database. Time is what the clock says, since the server and workers are other processes: let nothing else run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from benchmarks.pairs import Pair
from flows.local_server import local_server
from tasks.config import PipelineConfig
from tasks.fan_out import fan_out
from tasks.pipeline import STEPS, Pipeline
from tasks.stage import execute
from vqgan_core.config import FanOutConfig

NUM_SHARDS = 200
NUM_WORKERS = 2
REPEATS = 3
SHORT = {
    "store.url": "memory://orchestration", "tokenizer.training.num_steps": 2, "prior.training.num_steps": 2,
    "sample.num_per_class": 1, "evaluate.num_images": 20, "evaluate.classifier.num_steps": 2,
}  # fmt: skip


def pairs() -> Iterator[Pair]:
    """All are warm: the first turn builds what is cached, and workers have imported what they need."""
    with local_server():
        yield _cached()
        for kind, cluster in CLUSTERS.items():
            with cluster() as config:
                yield _spread(kind, config)


def _cached() -> Pair:
    from flows.end_to_end import end_to_end  # noqa: PLC0415 - after the server's environment is set

    return Pair(
        name="end_to_end of the digits, all cached",
        unit="runs/s",
        count=1,
        ours=lambda: end_to_end(preset="digits", overrides=SHORT),
        plain=_plain,
        on_the_clock=True,
        per="run",
    )


def _plain() -> None:
    pipeline = Pipeline(PipelineConfig.preset("digits", SHORT))
    for stage in STEPS:
        execute(pipeline.request(stage), pipeline.store)


def _spread(kind: str, config: FanOutConfig) -> Pair:
    """Shards that are handed out inside a flow, against a loop over them."""
    from prefect import flow  # noqa: PLC0415 - after the server's environment is set

    return Pair(
        name=f"{NUM_SHARDS} shards that do nothing, {kind}",
        unit="shards/s",
        count=NUM_SHARDS,
        ours=flow(name=f"fan-out-{kind}")(lambda: _all_made(config)),
        plain=lambda: _all_made(FanOutConfig()),
        repeats=REPEATS,
        on_the_clock=True,
        per="shard",
    )


def _all_made(config: FanOutConfig) -> None:
    made = dict(fan_out(config, _open_nothing, range(NUM_SHARDS), name=str))
    assert made == {shard: shard for shard in range(NUM_SHARDS)}, "each comes back, once"


def _open_nothing() -> Callable[[int], int]:
    return _same


def _same(shard: int) -> int:
    return shard


def _threads() -> AbstractContextManager[FanOutConfig]:
    return nullcontext(FanOutConfig(kind="threads", num_workers=NUM_WORKERS))


@contextmanager
def _dask() -> Iterator[FanOutConfig]:
    from distributed import LocalCluster  # noqa: PLC0415 - only this benchmark needs it

    logging.getLogger("distributed").setLevel(logging.WARNING)
    with LocalCluster(n_workers=NUM_WORKERS, threads_per_worker=1, dashboard_address=None) as cluster:
        yield FanOutConfig(kind="dask", num_workers=NUM_WORKERS, address=cluster.scheduler_address)


@contextmanager
def _ray() -> Iterator[FanOutConfig]:
    """Prefect's runner takes the cluster that its process has started."""
    import ray  # noqa: PLC0415 - only this benchmark needs it

    with ray.init(address="local", num_cpus=NUM_WORKERS, include_dashboard=False, log_to_driver=False):
        yield FanOutConfig(kind="ray", num_workers=NUM_WORKERS)


CLUSTERS: dict[str, Callable[[], AbstractContextManager[FanOutConfig]]] = {
    "threads": _threads, "Dask": _dask, "Ray": _ray,
}  # fmt: skip
