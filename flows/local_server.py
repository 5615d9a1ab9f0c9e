"""A Prefect server for one command, where none is configured.

Prefect would start one by itself, but that one outlives a killed command and gives up after 20 seconds, which a first
start with its database migrations can need. This one dies with its parent (PR_SET_PDEATHSIG) and is waited for. It has
a session of its own, because a terminal sends Ctrl-C to all of the command's: the command could not tell it the end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

START_SECONDS = 180.0
_PR_SET_PDEATHSIG = 1

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
}


class ServerError(RuntimeError):
    """The temporary Prefect server did not start."""


@contextmanager
def local_server(*, debug: bool = False) -> Iterator[None]:
    """Make sure that a Prefect API is there while the block runs.

    The server keeps its history in Prefect's home, so that `prefect server start` shows past runs.

    Raises:
        ServerError: it did not answer in time; says where its log is.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, "INFO" if debug and name == "PREFECT_LOGGING_LEVEL" else value)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings  # noqa: PLC0415 - import takes a second

    if PREFECT_API_URL.value():
        yield
        return
    with running_server(Path(PREFECT_HOME.value())) as url, temporary_settings({PREFECT_API_URL: url}):
        yield


@contextmanager
def running_server(home: Path, *, schedules: bool = False) -> Iterator[str]:
    """Run a server while the block runs; gives the URL of its API.

    Args:
        home: where its database and its log are.
        schedules: create the runs that deployments' schedules ask for.

    Raises:
        ServerError: it did not answer in time; says where its log is.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    services = [] if schedules else ["--no-scheduler", "--no-late-runs"]
    with (home / "tessera-server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui",
             *services, "--log-level", "ERROR"],
            env={**QUIET, **os.environ, "PREFECT_HOME": str(home)}, stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread of ours runs yet
        )  # fmt: skip
    try:
        with Console(stderr=True).status("starting a Prefect server for this command"):
            _wait_until_healthy(process, port, Path(log.name))
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the temporary Prefect server exited with status {process.returncode}: see {log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ServerError(f"the temporary Prefect server did not answer within {START_SECONDS:.0f} s: see {log}")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
