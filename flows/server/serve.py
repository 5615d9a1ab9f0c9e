"""`tessera server`: start the server, furnish it, keep a worker for each pool running, and end cleanly.

Runs that are going on when it ends are told to stop: they write a checkpoint, their worker reports them as crashed, and
the next `tessera server` in the same Prefect home goes on with them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flows.local_server import LOG_NAME, Address, ServerError, running_server, start_child, wait_for_child
from vqgan_core.config import ConfigError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"  # noqa: S105 - the name of a variable, not a password
LOOK_EVERY_SECONDS = 0.5
RESTART_AFTER_SECONDS = 5.0
STOP_SECONDS = 45.0

#: Leases of concurrency limits survive a restart; nothing is told to anybody; nobody is asked.
SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_UI_API_URL": "/api",
}


@dataclass(frozen=True)
class Plan:
    """What to start."""

    address: Address
    pools: Sequence[str]
    """A worker is started for each."""
    num_gpus: int
    """Slots of the gpu pool and of its worker here."""
    home: Path
    """Prefect's home: database and log."""

    def check(self) -> None:
        """Refuse what would be open to the world, before anything is started.

        Raises:
            ConfigError: the server would be reachable from other machines without a password.
        """
        if self.address.host not in LOOPBACK and not os.environ.get(PASSWORD):
            raise ConfigError(
                f"--host {self.address.host} lets other machines in, and whoever reaches the server can run code on "
                f"its workers: set {PASSWORD}=USER:PASSWORD first (and PREFECT_API_AUTH_STRING for workers and clients)"
            )


def serve(plan: Plan) -> None:
    """Run until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the plan is unsafe.
        ServerError: the server did not start, ended by itself, or refused a deployment.
    """
    plan.check()
    os.environ.update(
        SERVER_ENVIRONMENT | {name: os.environ[name] for name in SERVER_ENVIRONMENT if name in os.environ}
    )
    if password := os.environ.get(PASSWORD):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", password)
    with _sigterm_is_interrupt(), running_server(plan.home, plan.address) as server:
        environment = _client_environment(server.url, plan.home)
        _furnish(plan, server.url, environment)
        with _workers(plan, environment) as look_after:
            _say(f"Tessera is at {server.url.removesuffix('/api')}  (Ctrl-C ends it; runs go on at the next start)")
            try:
                while server.process.poll() is None:
                    look_after()
                    time.sleep(LOOK_EVERY_SECONDS)
            except KeyboardInterrupt:
                _say("stopping: runs write their checkpoints")
                return
    raise ServerError(f"the Prefect server ended by itself: see {plan.home / LOG_NAME}")


def _furnish(plan: Plan, url: str, environment: Mapping[str, str]) -> None:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - import takes a second
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

    from flows.server import furnish  # noqa: PLC0415 - imports Prefect

    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        furnish.ensure_pools(client, plan.num_gpus)
        furnish.ensure_automations(client, furnish.read_automations())
        if requeued := furnish.requeue_crashed(client):
            _say(f"{requeued} runs go on where they were when the server ended")
    furnish.deploy_all(environment)


def _client_environment(url: str, home: Path) -> dict[str, str]:
    return {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home.absolute()),
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "INFO"),
        "PREFECT_LOGGING_TO_API_ENABLED": "true",
    }


@contextmanager
def _workers(plan: Plan, environment: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Keep a worker for each pool; what it gives starts dead ones again when called."""

    def start(pool: str) -> subprocess.Popen[bytes]:
        limit = ["--limit", str(plan.num_gpus)] if pool == "gpu" else []
        return start_child("worker", "start", "--pool", pool, "--type", "process", *limit, environment=environment)

    running = {pool: start(pool) for pool in plan.pools}
    died: dict[str, float] = {}

    def look_after() -> None:
        for pool, process in running.items():
            if process.poll() is None:
                continue
            if pool not in died:
                _say(f"the worker of pool {pool} ended with status {process.returncode}; starting another")
                died[pool] = time.monotonic()
            elif time.monotonic() - died[pool] > RESTART_AFTER_SECONDS:
                del died[pool]
                running[pool] = start(pool)

    try:
        yield look_after
    finally:
        for process in running.values():
            _stop_worker(process)


def _stop_worker(process: subprocess.Popen[bytes]) -> None:
    """End a worker and what it runs: the whole session is told, so that trainings write their checkpoints."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    wait_for_child(process, patience_seconds=STOP_SECONDS)


@contextmanager
def _sigterm_is_interrupt() -> Iterator[None]:
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
