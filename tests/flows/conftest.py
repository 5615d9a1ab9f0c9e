"""What the tests of flows share: a Prefect server for flows in this process. One with workers is in server/."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.local_server import QUIET, api_of_this_process, running_server
from tests.flows.command_line import CommandLine

ROOT = Path(__file__).resolve().parents[2]

# Prefect reads its settings when it is imported, which the test modules do. Nothing goes to the user's own home.
_HOME = tempfile.TemporaryDirectory(prefix="tessera-tests-prefect-", ignore_cleanup_errors=True)
os.environ |= {**QUIET, "PREFECT_HOME": _HOME.name}
os.environ.pop("PREFECT_API_URL", None)


NewHome = Callable[[str], Path]


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> NewHome:
    """Makes homes of Prefect in which a server has been before.

    A first start migrates an empty database through years of versions, which takes up to half a minute. One server does
    so for all processes of the test run; the others are given copies.
    """
    place = tmp_path_factory.getbasetemp()
    shared = place if worker_id == "master" else place.parent
    started = shared / "prefect-home"
    with (shared / "prefect-home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not started.exists():
            with running_server(shared / "prefect-home-starting"):
                pass
            (shared / "prefect-home-starting").rename(started)

    def make(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        for path in started.glob("prefect.db*"):
            shutil.copy(path, home)
        return home

    return make


@pytest.fixture(scope="session")
def harness(new_home: NewHome) -> Iterator[str]:
    """A server that flows of this process run against; gives the URL of its API."""
    with running_server(new_home("harness")) as server, api_of_this_process(server.url):
        yield server.url


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, in this process; where the store is, only its arguments say."""
    monkeypatch.delenv("TESSERA_STORE", raising=False)
    return CommandLine(capsys)
