"""A Prefect server as a child process: for one command, where none is configured, and for `tessera server`.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180.0
EVENTS_SECONDS = 20.0
LOG_NAME = "tessera-server.log"
_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to
_PR_SET_PDEATHSIG = 1

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
}


class ServerError(RuntimeError):
    """A Prefect server did not start."""


@contextmanager
def local_server(*, debug: bool = False) -> Iterator[None]:
    """Make sure that a Prefect API is there while the block runs.

    The server keeps its history in Prefect's home, so that `prefect server start` shows past runs.

    Raises:
        ServerError: it did not answer in time; says where its log is.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, "INFO" if debug and name == "PREFECT_LOGGING_LEVEL" else value)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME  # noqa: PLC0415 - import takes a second

    if PREFECT_API_URL.value():
        yield
        return
    with running_server(Path(PREFECT_HOME.value())) as server, api_of_this_process(server.url):
        yield


@contextmanager
def api_of_this_process(url: str) -> Iterator[None]:
    """Talk to one server while the block runs, from every thread and every child.

    Prefect's own `temporary_settings` hold in the threads that Prefect starts. Any other one, like that which hands on
    the events of a process pool, would start a server for itself, which knows of no run.

    All events that were made before are sent to where they belong first, and those of the block at its end: Prefect
    keeps one sender for all of a process (3.8.8), which stays with the server that it was started for.

    Runs that this thread begins send no heartbeats: the server ends with this process, so nobody misses them, and the
    thread that sends them lets each run wait for up to a second at its end (Prefect 3.8.8).
    """
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - import takes a second
    from prefect.events.worker import EventsWorker  # noqa: PLC0415
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: PLC0415

    EventsWorker.drain_all(timeout=EVENTS_SECONDS)
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()
    try:
        with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        EventsWorker.drain_all(timeout=EVENTS_SECONDS)
        if before is None:
            del os.environ["PREFECT_API_URL"]
        else:
            os.environ["PREFECT_API_URL"] = before
        refresh_global_settings_context()


@dataclass(frozen=True)
class Address:
    """Where a server listens, and what it does there."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    ui: bool = False
    """Serve the pages, too."""
    schedules: bool = False
    """Create the runs that deployments' schedules ask for."""

    @property
    def seen_from_here(self) -> str:
        """The host under which this machine reaches it."""
        return "127.0.0.1" if self.host in _EVERYWHERE else self.host


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

    url: str
    """Of its API, as this machine reaches it."""
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(home: Path, address: Address | None = None) -> Iterator[RunningServer]:
    """Run a server while the block runs.

    Args:
        home: where its database and its log are.
        address: where it listens; None: on a free port, for this machine alone.

    Raises:
        ServerError: it exited, or did not answer in time; says where its log is.
    """
    home.mkdir(parents=True, exist_ok=True)
    address = address or Address()
    port = address.port or _free_port()
    url = f"http://{address.seen_from_here}:{port}/api"
    flags = [] if address.schedules else ["--no-scheduler", "--no-late-runs"]
    flags += [] if address.ui else ["--no-ui"]
    with (home / LOG_NAME).open("wb") as log:
        process = start_child(
            "server", "start", "--host", address.host, "--port", str(port), *flags, "--log-level", "ERROR",
            environment={"PREFECT_HOME": str(home.absolute()), "PREFECT_API_URL": url},
            log=log, module="flows.server.patient",
        )  # fmt: skip
    try:
        with Console(stderr=True).status("starting a Prefect server"):
            _wait_until_healthy(process, url, Path(log.name))
        yield RunningServer(url, process)
    finally:
        stop_child(process)


def start_child(
    *arguments: str, environment: Mapping[str, str], log: IO[bytes] | int | None = None, module: str = "prefect"
) -> subprocess.Popen[bytes]:
    """Start Prefect's command line in a session of its own; it dies with this process.

    Args:
        arguments: of the command line.
        environment: variables besides those of this process.
        log: where its output goes; None: where that of this process goes.
        module: Prefect's command line, or one that is like it.
    """
    return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", module, "--no-prompt", *arguments],
        cwd=ROOT,
        env={**QUIET, **os.environ, **environment},
        stdout=log,
        stderr=subprocess.STDOUT if log is not None else None,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread of ours runs yet
    )


def stop_child(process: subprocess.Popen[bytes], *, patience_seconds: float = 10) -> None:
    """Ask a child to end, and end it if it does not."""
    process.terminate()
    wait_for_child(process, patience_seconds=patience_seconds)


def wait_for_child(process: subprocess.Popen[bytes], *, patience_seconds: float) -> None:
    """Wait for a child that has been asked to end, and end it if it does not."""
    try:
        process.wait(timeout=patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the Prefect server exited with status {process.returncode}: see {log}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 - our own server's http://
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ServerError(f"the Prefect server did not answer within {START_SECONDS:.0f} s: see {log}")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
