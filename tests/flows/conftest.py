"""What the tests of flows share: Prefect's test harness for flows in this process, and one real server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.local_server import QUIET, running_server
from tests.flows.command_line import CommandLine

ROOT = Path(__file__).resolve().parents[2]

# Prefect reads its settings when it is imported, which the test modules do. Nothing goes to the user's own home.
_HOME = tempfile.TemporaryDirectory(prefix="tessera-tests-prefect-", ignore_cleanup_errors=True)
os.environ |= {**QUIET, "PREFECT_HOME": _HOME.name}
os.environ.pop("PREFECT_API_URL", None)


@dataclass(frozen=True)
class Server:
    """A server of our own, with its scheduler, in a home of its own."""

    url: str
    home: Path

    def prefect(self, *arguments: str, timeout_seconds: float = 240) -> str:
        """Run Prefect's command line against it, from the repository root; returns what it printed."""
        surroundings = {**os.environ, **QUIET, "PREFECT_API_URL": self.url, "PREFECT_HOME": str(self.home)}
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments], cwd=ROOT, env=surroundings,
            capture_output=True, text=True, timeout=timeout_seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"prefect {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def post(self, path: str, content: Any) -> httpx.Response:
        """Ask its API, as the UI does."""
        return httpx.post(f"{self.url}{path}", json=content, timeout=30)

    def found(self, path: str, content: Any) -> list[dict[str, Any]]:
        """The rows of a filter."""
        answer = self.post(path, content)
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with both work pools; its first start migrates a database, which takes half a minute."""
    home = tmp_path_factory.mktemp("prefect")
    with running_server(home, schedules=True) as url:
        server = Server(url, home)
        for pool in ("cpu", "gpu"):
            server.prefect("work-pool", "create", pool, "--type", "process")
        yield server


@pytest.fixture(scope="session")
def harness() -> Iterator[str]:
    """Prefect's test harness: flows of this process run against its server; gives the URL of its API."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - after the environment is set
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, in this process; where the store is, only its arguments say."""
    monkeypatch.delenv("TESSERA_STORE", raising=False)
    return CommandLine(capsys)
