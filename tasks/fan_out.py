"""Working on many units of a stage at the same time: in threads or processes of this machine, or on a cluster.

What a unit becomes is a part of the store, named by what it was made from. So workers need nothing but the stage's
config and the store, what comes back is a small record, and a unit that is made twice (Dask makes again what a dead
worker had) is found the second time. The run that holds the stage's lease hands out units and collects their parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from vqgan_core.config import ConfigError, FanOutConfig

__all__ = ["check_reachable", "fan_out", "num_workers"]

Item = TypeVar("Item")
Made = TypeVar("Made")


def fan_out(
    config: FanOutConfig,
    open_maker: Callable[[], Callable[[Item], Made]],
    items: Iterable[Item],
    name: Callable[[Item], str],
) -> Iterator[tuple[Item, Made]]:
    """Make something of each item; yields in the order in which they are done.

    Args:
        config: where.
        open_maker: gives what makes an item's result; it is called once in each process that works, and sent there:
            so it is a module's function, or a `partial` of one, with arguments that can be sent.
        items: read as workers become free, so that few are in memory.
        name: of an item, for people.

    Raises:
        Exception: whatever making an item raised; what was done until then stays done.
    """
    if config.kind == "none":
        make = open_maker()
        return ((item, make(item)) for item in items)
    from tasks.fan_out_runners import run_units  # noqa: PLC0415 - imports Prefect, which takes a second

    return run_units(config, open_maker, items, name)


def num_workers(config: FanOutConfig) -> int:
    """Units at once."""
    if config.kind == "none":
        return 1
    return config.num_workers or len(os.sched_getaffinity(0))


def check_reachable(config: FanOutConfig, store_url: str) -> None:
    """Refuse a store that other processes cannot see.

    Raises:
        ConfigError: it is in this process' memory.
    """
    if config.kind not in ("none", "threads") and store_url.startswith("memory:"):
        raise ConfigError(
            f"fan_out.kind {config.kind} works in other processes, which cannot reach the store {store_url}: choose "
            "threads, or a store on disk or in a bucket"
        )
