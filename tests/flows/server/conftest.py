"""One real server with workers for all tests of this folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import get_client

from flows.local_server import api_of_this_process
from flows.server import furnish
from tests.ceph import free_port
from tests.flows.conftest import NewHome
from tests.flows.server.service import Service, until
from tests.processes import Marked
from tests.tiny import Published, write_preset

#: Workers and the server's own services look more often than people need, and say what they would say to them.
IMPATIENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
    "PREFECT_LOGGING_LEVEL": "INFO",
}
#: Secrets that every worker is given, and that may be found nowhere afterwards.
PLANTED = {"AWS_SECRET_ACCESS_KEY": "planted-4f1c0e9ab2d7", "FSSPEC_S3_SECRET": "planted-77d0a3c5e81b"}


@pytest.fixture(scope="session")
def service(new_home: NewHome) -> Iterator[Service]:
    """`tessera server`."""
    with served(new_home("prefect")) as found:
        yield found


@contextmanager
def served(home: Path, pools: Sequence[str] = ("cpu", "gpu"), **environment: str) -> Iterator[Service]:
    """`tessera server` in a home of its own, with workers of these pools."""
    marked = Marked()
    port = free_port()
    output = (home / "output.log").open("w")
    process = marked.start(
        "-m", "flows.cli", "server", "--port", str(port), "--gpus", "1", "--pools", *pools,
        environment={**IMPATIENT, **PLANTED, "PREFECT_HOME": str(home), **environment}, output=output,
    )  # fmt: skip
    found = Service(f"http://127.0.0.1:{port}/api", home, process)
    try:
        until(lambda: _has_workers(found, pools) or process.poll() is not None, "the server and its workers")
        assert process.poll() is None, (home / "output.log").read_text()
        yield found
    finally:
        marked.stop_all()


def _has_workers(service: Service, pools: Sequence[str]) -> bool:
    try:
        return all(service.found(f"/work_pools/{pool}/workers/filter", {}) for pool in pools)
    except (httpx.HTTPError, OSError):
        return False


@contextmanager
def patience(service: Service, automation: str, seconds: float) -> Iterator[None]:
    """One automation of the repository waits for so long while the block runs; ten is the least that Prefect allows."""
    (shipped,) = (each for each in furnish.read_automations() if each.name == automation)
    trigger = shipped.trigger.model_copy(update={"within": timedelta(seconds=seconds)})
    with api_of_this_process(service.url), get_client(sync_client=True) as client:
        furnish.ensure_automations(client, [shipped.model_copy(update={"trigger": trigger})])
        yield
        furnish.ensure_automations(client, [shipped])


@dataclass(frozen=True)
class Journey:
    """Two runs of one config."""

    folder: Path
    runs: tuple[str, str]
    seconds: tuple[float, float]


@pytest.fixture(scope="session")
def journey(service: Service, published: Published, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """The tiny pipeline, run through the API, and the same again."""
    folder = tmp_path_factory.mktemp("journey")
    preset = write_preset(folder / "tiny.yaml", folder / "store", published.source)
    runs, seconds = [], []
    for _ in range(2):
        started = time.monotonic()
        runs.append(service.start("end-to-end", preset=str(preset), store=str(folder / "store")))
        assert service.finished(runs[-1])["state"]["name"] == "Completed", service.logs(runs[-1])
        seconds.append(time.monotonic() - started)
    return Journey(folder, (runs[0], runs[1]), (seconds[0], seconds[1]))
