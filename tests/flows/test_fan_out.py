"""Shards and token files made by threads, processes, a Dask and a Ray cluster: the bytes of one process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterName

from datasets.store import Store
from flows.encode import encode
from flows.shard import shard
from tasks import encode as encode_stage
from tasks import shard as shard_stage
from tasks.fan_out import fan_out
from tests.tiny import Published, contents, write_preset
from vqgan_core.config import ConfigError, FanOutConfig

pytestmark = [pytest.mark.usefixtures("harness"), pytest.mark.slow, pytest.mark.timeout(600)]
FLOWS: dict[str, Callable[..., State[Any]]] = {"shard": shard, "encode": encode}
MADE = {"shard": "corpus", "encode": "tokens"}
#: Of the tiny pipeline.
NUM_UNITS = {"shard": 6, "encode": 24}
SERVER_SECONDS = 60.0


def _not_here(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("done by the run's own process")


def _run(flow: Callable[..., State[Any]], stage: str, store: Published, **fan_out: Any) -> int:
    """Run a stage's flow; how many units it handed out, all of them completed."""
    preset = write_preset(store.root.parent / "tiny.yaml", store.root, store.source)
    overrides = {f"{stage}.execution.fan_out.{name}": value for name, value in fan_out.items()}
    state = flow(preset=str(preset), overrides=overrides, return_state=True)
    state.result()
    return _completed(state.state_details.flow_run_id, stage)


def _completed(run: UUID | None, stage: str) -> int:
    """Units of a run; the server is told of their ends by events, a little later."""
    deadline = time.monotonic() + SERVER_SECONDS
    while True:
        with get_client(sync_client=True) as client:
            rows = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
                task_run_filter=TaskRunFilter(name=TaskRunFilterName(like_=f"{stage} · ")),
            )
        units = [row.state_name for row in rows if row.task_key.startswith("make_unit")]
        if set(units) <= {"Completed"} and (len(units) == NUM_UNITS[stage] or time.monotonic() > deadline):
            return len(units)
        assert time.monotonic() < deadline, units
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("threads", "shard"),
        ("threads", "encode"),
        ("processes", "encode"),
        ("dask", "shard"),
        ("ray", "shard"),
    ],
)
def test_the_bytes_are_those_of_one_process(
    kind: str, stage: str, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "threads":  # other processes import what is not patched
        monkeypatch.setattr(shard_stage, "build_unit", _not_here)
        monkeypatch.setattr(encode_stage, "_Encoder", _not_here)
    made = MADE[stage]
    store = published.without(made, tmp_path / "store")
    assert _run(FLOWS[stage], stage, store, kind=kind, num_workers=2) == NUM_UNITS[stage]
    assert contents(Store.open(str(store.root)))[made] == contents(Store.open(str(published.root)))[made]


@pytest.fixture
def dask_address() -> Iterator[str]:
    """A running Dask cluster as people start one, whose worker is a daemon."""
    import dask  # noqa: PLC0415 - only this test needs it
    from distributed import LocalCluster  # noqa: PLC0415

    with (
        dask.config.set({"distributed.worker.daemon": True}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


def test_a_running_cluster_is_joined_by_its_address(
    published: Published, tmp_path: Path, dask_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="DASK_DISTRIBUTED__WORKER__DAEMON=False"):
        _run(shard, "shard", published.without("corpus", tmp_path / "empty"), kind="dask", address=dask_address)
    monkeypatch.setattr(encode_stage, "_Encoder", _not_here)
    store = published.without("tokens", tmp_path / "store")
    assert _run(encode, "encode", store, kind="dask", address=dask_address) == NUM_UNITS["encode"]
    (tokens,) = Store.open(str(store.root)).artifacts("tokens")
    assert tokens.digest == published.artifacts["tokens"].manifest.digest


def test_what_is_there_is_not_handed_out(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = published.copy(tmp_path / "store")
    shutil.rmtree(store.root / "corpus")
    shutil.rmtree(next((store.root / "parts" / "corpus").iterdir()))
    monkeypatch.setitem(NUM_UNITS, "shard", 1)
    assert _run(shard, "shard", store, kind="threads", num_workers=2) == 1


def test_items_are_read_as_workers_become_free() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            begun.append(number)
            yield number

    made = fan_out(FanOutConfig(kind="threads", num_workers=2), lambda: lambda item: item * item, items(), name=str)
    first = next(made)
    assert len(begun) == 4
    assert dict([first, *made]) == {number: number * number for number in range(20)}


def test_the_first_failure_is_raised_as_it_was() -> None:
    def make(item: int) -> int:
        if item == 3:
            raise KeyError("three")
        return item

    made = fan_out(FanOutConfig(kind="threads", num_workers=1), lambda: make, iter(range(100)), name=str)
    done = []
    with pytest.raises(KeyError, match="three"):
        done.extend(made)
    assert done == [(0, 0), (1, 1), (2, 2)]


def test_a_store_in_memory_is_out_of_reach(published: Published, tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.yaml", "memory://fan-out", published.source)
    with pytest.raises(ConfigError, match="cannot reach the store memory://fan-out"):
        shard(preset=str(preset), overrides={"shard.execution.fan_out.kind": "processes"})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "threads", "address": "tcp://x:1"}, "choose kind dask or ray, not threads"),
        ({"num_workers": 2}, "of kind none: choose threads"),
    ],
)
def test_fields_that_say_nothing_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FanOutConfig(**fields)
