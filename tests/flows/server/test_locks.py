"""Many runs at once tell one server about themselves. SQLite has one writer: the others wait, and lose nothing."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import State, StateType

from flows.local_server import api_of_this_process
from tests.flows.server.service import Service

pytestmark = pytest.mark.slow
NUM_RUNS = 6
NUM_ARTIFACTS = 8
#: Longer than Prefect waits for a statement by default.
LOCKED_SECONDS = 12.0


def test_a_locked_database_makes_runs_wait(service: Service) -> None:
    locked = threading.Event()
    with api_of_this_process(service.url), ThreadPoolExecutor(NUM_RUNS + 1) as pool:
        lock = pool.submit(_hold_the_lock, service.home / "prefect.db", locked)
        locked.wait()
        runs = list(pool.map(_tell, range(NUM_RUNS)))
        lock.result()
    for run in runs:
        assert service.run(run)["state"]["type"] == "COMPLETED"
        told = sorted(row["data"] for row in service.artifacts(run))
        assert told == sorted(f"{run} {number}" for number in range(NUM_ARTIFACTS)), "once each"


def _hold_the_lock(path: Path, locked: threading.Event) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as database:
        database.execute("BEGIN IMMEDIATE")
        locked.set()
        time.sleep(LOCKED_SECONDS)
        database.execute("ROLLBACK")


def _tell(number: int) -> str:
    """A run's life, as its process tells it; returns its id."""
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(f"one-of-many-{number}")
        asked = {"flow_id": str(flow), "state": {"type": "PENDING"}}
        run = client.request("POST", "/flow_runs/", json=asked).json()["id"]
        client.set_flow_run_state(run, State(type=StateType.RUNNING))
        for count in range(NUM_ARTIFACTS):
            client.create_artifact(ArtifactCreate(type="markdown", data=f"{run} {count}", flow_run_id=run))
        client.set_flow_run_state(run, State(type=StateType.COMPLETED))
    return str(run)
