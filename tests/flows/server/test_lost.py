"""What the server does by itself about runs whose process is lost, and about their slots.

No process is needed for it: a run is what the server's database says of it.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.local_server import running_server
from flows.server import furnish
from tests.flows.server.service import Service, until

pytestmark = pytest.mark.slow
HEARTBEAT = "tessera-crash-runs-without-heartbeat"
RUNNING = {"type": "RUNNING", "name": "Running"}


@pytest.fixture
def impatient(service: Service) -> Iterator[None]:
    """The automations of the repository, but with ten seconds of patience, the least that Prefect allows."""
    shipped = furnish.read_automations()
    (heartbeat,) = (automation for automation in shipped if automation.name == HEARTBEAT)
    trigger = heartbeat.trigger.model_copy(update={"within": timedelta(seconds=10)})
    soon = [heartbeat.model_copy(update={"trigger": trigger})]
    with temporary_settings({PREFECT_API_URL: service.url}), get_client(sync_client=True) as client:
        furnish.ensure_automations(client, soon)
        yield
        furnish.ensure_automations(client, [heartbeat])


@pytest.mark.usefixtures("impatient")
def test_a_run_without_heartbeats_goes_back_to_its_queue(service: Service) -> None:
    """Machine, worker and process went at once: nobody but the server can notice."""
    flow = service.post("/flows/", {"name": "of-a-lost-machine"}).json()["id"]
    runs = {
        tag: service.post("/flow_runs/", {"flow_id": flow, "tags": [tag], "state": RUNNING}).json()["id"]
        for tag in (furnish.TAG, "of-others")
    }
    for tag, run in runs.items():
        service.post("/events", [_heartbeat(run, tag)]).raise_for_status()
    until(lambda: service.run(runs[furnish.TAG])["state"]["name"] == "AwaitingRetry", "the run in its queue again")
    history = service.get(f"/flow_run_states/?flow_run_id={runs[furnish.TAG]}")
    assert [state["name"] for state in history] == ["Running", "Crashed", "AwaitingRetry"]
    assert service.run(runs["of-others"])["state"]["name"] == "Running", "runs of others are theirs"


def _heartbeat(run: str, tag: str) -> dict[str, Any]:
    """What the process of a run tells every thirty seconds."""
    return {
        "id": str(uuid.uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}],
    }


def test_the_slot_of_a_gpu_is_held_over_a_restart_of_the_server(service: Service, tmp_path: Path) -> None:
    """Two runs want the one slot; a server that starts on the same database knows who has it."""
    pool = service.found("/work_pools/filter", {"work_pools": {"name": {"any_": ["gpu"]}}})[0]
    assert pool["concurrency_limit"] == 1
    create = f"/deployments/{service.deployment('end-to-end')['id']}/create_flow_run"
    holder = service.post(create, {"state": RUNNING}).json()["id"]
    waiting = service.post(create, {"state": {"type": "SCHEDULED"}}).json()["id"]
    try:
        assert _offered(service.url) == []
        database = "prefect.db"
        with (
            closing(sqlite3.connect(service.home / database)) as ours,
            closing(sqlite3.connect(tmp_path / database)) as copy,
        ):
            ours.backup(copy)
        with running_server(tmp_path) as restarted:
            assert _offered(restarted.url) == []
            _set_state(restarted.url, holder, {"type": "CRASHED", "name": "Crashed"})
            assert _offered(restarted.url) == [waiting], "the slot is free as soon as its holder is known to be gone"
    finally:
        for run in (waiting, holder):
            httpx.delete(f"{service.url}/flow_runs/{run}").raise_for_status()


def _offered(url: str) -> list[str]:
    """The runs that a worker of the pool would be given now."""
    answer = httpx.post(f"{url}/work_pools/gpu/get_scheduled_flow_runs", json={}, timeout=60)
    answer.raise_for_status()
    return [row["flow_run"]["id"] for row in answer.json()]


def _set_state(url: str, run: str, state: dict[str, str]) -> None:
    answer = httpx.post(f"{url}/flow_runs/{run}/set_state", json={"state": state, "force": True}, timeout=60)
    answer.raise_for_status()
