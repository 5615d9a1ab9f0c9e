"""A running `tessera server`, seen as the UI and Prefect's command line see it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from flows.local_server import QUIET
from tests.flows.conftest import ROOT

DEADLINE_SECONDS = 600.0
PATIENCE_SECONDS = 180.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
Found = TypeVar("Found")


@dataclass(frozen=True)
class Service:
    """A server of our own, with its scheduler and its workers, in a home of its own."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def prefect(self, *arguments: str, timeout_seconds: float = 240) -> str:
        """Run Prefect's command line against it, from the repository root; returns what it printed."""
        surroundings = {**os.environ, **QUIET, "PREFECT_API_URL": self.url, "PREFECT_HOME": str(self.home)}
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments], cwd=ROOT, env=surroundings,
            capture_output=True, text=True, timeout=timeout_seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"prefect {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def get(self, path: str) -> Any:
        """Read from its API."""
        answer = self._ask("GET", path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, content: Any) -> httpx.Response:
        """Ask its API, as the UI does."""
        return self._ask("POST", path, content)

    def patch(self, path: str, content: Any) -> None:
        """Change something, as the UI does."""
        self._ask("PATCH", path, content).raise_for_status()

    def _ask(self, method: str, path: str, content: Any = None) -> httpx.Response:
        """SQLite's one writer may be busy for longer than the server waits: then it says 503, and is asked again."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            answer = httpx.request(method, f"{self.url}{path}", json=content, timeout=PATIENCE_SECONDS)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return answer
            time.sleep(1)

    def found(self, path: str, content: Any) -> list[dict[str, Any]]:
        """The rows of a filter."""
        answer = self.post(path, content)
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by its name."""
        (row,) = self.found("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return row

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run as the UI's form does; returns its id."""
        path = f"/deployments/{self.deployment(deployment)['id']}/create_flow_run"
        answer = self.post(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def run(self, run: str) -> dict[str, Any]:
        """A flow run as it is now."""
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")
        return found

    def tasks(self, run: str) -> dict[str, str]:
        """The states of a run's tasks by their names, in the order in which they began."""
        rows = self.found("/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run]}}})
        return {row["name"]: row["state"]["name"] for row in sorted(rows, key=lambda row: str(row["start_time"]))}

    def task_types(self, run: str) -> set[str]:
        """The types of the states of all task runs, of dead processes, too."""
        rows = self.found("/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run]}}})
        return {row["state"]["type"] for row in rows}

    def progress(self, run: str) -> list[str]:
        """What the progress artifacts of a run say."""
        rows = [row for row in self.artifacts(run) if row["type"] == "progress"]
        return [str(row["description"]) for row in rows]

    def finished(self, run: str) -> dict[str, Any]:
        """Wait until a run is at its end."""
        return until(lambda: self._at_its_end(run), f"the end of {run}")

    def _at_its_end(self, run: str) -> dict[str, Any] | None:
        row = self.run(run)
        return row if row["state"]["type"] in FINAL else None

    def logs(self, run: str) -> str:
        """What a run said."""
        rows = self.found("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(row["message"] for row in rows)

    def history(self, run: str) -> list[str]:
        """The names of the states that a run was in."""
        rows = self.get(f"/flow_run_states/?flow_run_id={run}")
        return [str(row["name"]) for row in sorted(rows, key=lambda row: str(row["timestamp"]))]

    def artifacts(self, run: str) -> list[dict[str, Any]]:
        """What a run put on its page."""
        return self.found("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})


def until(look: Callable[[], Found | None], what: str, seconds: float = DEADLINE_SECONDS, pause: float = 0.2) -> Found:
    """Look again and again until there is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pause)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def states(tasks: Mapping[str, str]) -> list[str]:
    """The states alone."""
    return list(tasks.values())
