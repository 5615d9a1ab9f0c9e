"""Units as Prefect tasks on one of Prefect's task runners; see `tasks.fan_out`.

A task is handed to its worker together with the run that it belongs to: the flow run, and not the stage's own task,
whose parameters hold the whole listing. So units stand beside their stage in the run's graph.
"""

from __future__ import annotations

import itertools
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from tasks.fan_out import num_workers
from tasks.orchestrate import worth_a_retry
from vqgan_core.config import ConfigError, FanOutConfig

Item = TypeVar("Item")
Made = TypeVar("Made")

#: What processes of a local Ray cluster share is a few records; its own default is a third of the memory.
RAY_SHARED_BYTES = 128 << 20


class Order:
    """What a worker is given: an item, and how a process comes by what makes something of it.

    No dataclass, and not two arguments: Prefect looks for futures in those, entry by entry, and Dask takes tuples
    apart.
    """

    def __init__(self, key: str, open_maker: Callable[[], Callable[[Any], Any]], item: Any) -> None:
        self.key = key
        """Of one fan-out: each process opens its maker once."""
        self.open_maker = open_maker
        self.item = item


#: What this process has opened: the maker of the fan-out that it works for.
_makers: dict[str, Callable[[Any], Any]] = {}
_opening = threading.Lock()


@task(
    name="unit",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
)
def make_unit(order: Order) -> Any:
    """Make one unit, wherever this runs. A task's own function is sent whole, with the globals that it names."""
    return _make(order)


def _make(order: Order) -> Any:
    with _opening:
        if order.key not in _makers:
            _makers.clear()
            _makers[order.key] = order.open_maker()
    return _makers[order.key](order.item)


def run_units(
    config: FanOutConfig,
    open_maker: Callable[[], Callable[[Item], Made]],
    items: Iterable[Item],
    name: Callable[[Item], str],
) -> Iterator[tuple[Item, Made]]:
    """As `tasks.fan_out.fan_out`; twice as many units are handed out as there are workers, so that none waits.

    Raises:
        ConfigError: what the cluster needs is not installed.
    """
    key = uuid.uuid4().hex
    waiting = iter(items)
    finished: SimpleQueue[PrefectFuture[Made]] = SimpleQueue()
    under_way: dict[uuid.UUID, Item] = {}

    def hand_out(count: int) -> None:
        for item in itertools.islice(waiting, count):
            unit = make_unit.with_options(task_run_name=name(item))
            with _beside_the_stage():
                future = runner.submit(unit, {"order": Order(key, open_maker, item)})
            under_way[future.task_run_id] = item
            future.add_done_callback(finished.put)

    try:
        with _runner(config) as runner:
            hand_out(2 * num_workers(config))
            while under_way:
                future = finished.get()
                made = future.result()
                yield under_way.pop(future.task_run_id), made
                hand_out(1)
    finally:
        _makers.pop(key, None)


@contextmanager
def _beside_the_stage() -> Iterator[None]:
    """Inside, a task that is submitted belongs to the flow run alone."""
    token = TaskRunContext.__var__.set(None)  # type: ignore[arg-type]  # its own `get` says None where there is none
    try:
        yield
    finally:
        TaskRunContext.__var__.reset(token)


def _runner(config: FanOutConfig) -> TaskRunner[Any]:
    if config.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=num_workers(config))
    if config.kind == "processes":
        return ProcessPoolTaskRunner(max_workers=num_workers(config))
    if find_spec(f"prefect_{config.kind}") is None:
        raise ConfigError(
            f"fan_out.kind {config.kind} needs prefect-{config.kind}, which is not installed here: `make setup` "
            "installs it, or `pip install prefect-dask prefect-ray`"
        )
    return _dask(config) if config.kind == "dask" else _ray(config)


def _dask(config: FanOutConfig) -> TaskRunner[Any]:
    import dask  # noqa: PLC0415 - only where it is asked for
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415

    if config.address is not None:
        return DaskTaskRunner(address=config.address)
    dask.config.set({"distributed.worker.daemon": False})  # daemons may have no children, and decoders are children
    workers = {"n_workers": num_workers(config), "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=workers)


def _ray(config: FanOutConfig) -> Any:  # prefect-ray says nothing of its types
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    from prefect_ray.task_runners import RayTaskRunner  # noqa: PLC0415 - only where it is asked for

    if config.address is not None:
        return RayTaskRunner(address=config.address)
    local = {
        "address": "local",  # and not whichever cluster was started last on this machine
        "num_cpus": num_workers(config),
        "include_dashboard": False,
        "object_store_memory": RAY_SHARED_BYTES,
    }
    return RayTaskRunner(init_kwargs=local)
