"""What the server does by itself about runs whose process is lost, and about their slots.

No process is needed for it: a run is what the server's database says of it.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.local_server import running_server
from flows.server import furnish
from tests.flows.server.conftest import patience
from tests.flows.server.service import Service, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WHO = ("tessera", "planted-5b1f")
RUNNING = {"type": "RUNNING", "name": "Running"}


@pytest.fixture
def paused(service: Service) -> Iterator[None]:
    """No worker takes a run of the cpu pool."""
    service.patch("/work_pools/cpu", {"is_paused": True})
    yield
    service.patch("/work_pools/cpu", {"is_paused": False})


@pytest.mark.usefixtures("paused")
def test_a_run_without_heartbeats_goes_back_to_its_queue(service: Service) -> None:
    """Machine, worker and process went at once: nobody but the server can notice."""
    create = f"/deployments/{service.deployment('shard')['id']}/create_flow_run"
    with (
        patience(service, "tessera-crash-runs-without-heartbeat", seconds=10),
        patience(service, "tessera-retry-crashed-runs", seconds=10),
    ):
        run = service.post(create, {"state": RUNNING}).json()["id"]
        others = {"flow_id": service.run(run)["flow_id"], "tags": ["of-others"], "state": RUNNING}
        another = service.post("/flow_runs/", others).json()["id"]
        try:
            events = [_heartbeat(run, furnish.TAG), _heartbeat(another, "of-others")]
            service.post("/events", events).raise_for_status()
            until(lambda: "AwaitingRetry" in service.history(run), "the run in its queue again")
            assert service.history(run)[:3] == ["Running", "Crashed", "AwaitingRetry"], "crashed once"
            assert service.history(another) == ["Running"], "runs of others are theirs"
        finally:
            _delete(service, run, another)


def _delete(service: Service, *runs: str) -> None:
    for run in runs:
        httpx.delete(f"{service.url}/flow_runs/{run}", timeout=60).raise_for_status()


def _heartbeat(run: str, tag: str) -> dict[str, Any]:
    """What the process of a run tells every thirty seconds."""
    return {
        "id": str(uuid.uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}],
    }


def test_a_server_that_starts_again_knows_whose_slot_it_is(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs want the one slot. A server on a copy of the database knows who has it, and here asks for a password."""
    (pool,) = service.found("/work_pools/filter", {"work_pools": {"name": {"any_": ["gpu"]}}})
    assert pool["concurrency_limit"] == 1
    create = f"/deployments/{service.deployment('end-to-end')['id']}/create_flow_run"
    holder = service.post(create, {"state": RUNNING}).json()["id"]
    waiting = service.post(create, {"state": {"type": "SCHEDULED"}}).json()["id"]
    try:
        assert _offered(httpx.Client(base_url=service.url, timeout=60)) == []
        _copy(service.home / "prefect.db", tmp_path / "prefect.db")
    finally:
        _delete(service, waiting, holder)

    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", ":".join(WHO))
    with running_server(tmp_path) as server, httpx.Client(base_url=server.url, auth=WHO, timeout=60) as client:
        assert httpx.post(f"{server.url}/flow_runs/filter", json={}).status_code == httpx.codes.UNAUTHORIZED
        assert _offered(client) == []
        gone = {"state": {"type": "CRASHED", "name": "Crashed"}, "force": True}
        client.post(f"/flow_runs/{holder}/set_state", json=gone).raise_for_status()
        assert _offered(client) == [waiting], "it is free as soon as its holder is known to be gone"


def _copy(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database)) as ours, closing(sqlite3.connect(to)) as copy:
        ours.backup(copy)


def _offered(client: httpx.Client) -> list[str]:
    """The runs that a worker of the pool would be given now."""
    answer = client.post("/work_pools/gpu/get_scheduled_flow_runs", json={}).raise_for_status()
    return [row["flow_run"]["id"] for row in answer.json()]
