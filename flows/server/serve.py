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
    """Slots of the gpu pool, and of its workers here."""
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
    """Keep the workers; what it gives starts dead ones again when called."""
    running = {slot: _start_worker(slot, environment) for slot in _slots(plan)}
    died: dict[_Slot, float] = {}

    def look_after() -> None:
        for slot, process in running.items():
            if process.poll() is None:
                continue
            if slot not in died:
                _say(f"a worker of pool {slot.pool} ended with status {process.returncode}; starting another")
                died[slot] = time.monotonic()
            elif time.monotonic() - died[slot] > RESTART_AFTER_SECONDS:
                del died[slot]
                running[slot] = _start_worker(slot, environment)

    try:
        yield look_after
    finally:
        for process in running.values():
            _stop_worker(process)


@dataclass(frozen=True)
class _Slot:
    """What one worker serves."""

    pool: str
    gpu: str | None = None
    """Which of several, as CUDA_VISIBLE_DEVICES names it; the worker and its runs see no other."""


def _slots(plan: Plan) -> list[_Slot]:
    """One worker for each pool, and on a machine of several GPUs one for each of them.

    A worker with a limit dies when a run of its own is back before it has tidied up after it (Prefect 3.8.8; see
    automations.yaml). Should it happen for all that, it has one run, and takes no other with it.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(plan.num_gpus)))
    gpus: list[str | None] = [*visible.split(",")[: plan.num_gpus]] if plan.num_gpus > 1 else [None]
    return [_Slot(pool, gpu) for pool in plan.pools for gpu in (gpus if pool == "gpu" else [None])]


def _start_worker(slot: _Slot, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    limit = ["--limit", "1"] if slot.pool == "gpu" else []
    sees = {} if slot.gpu is None else {"CUDA_VISIBLE_DEVICES": slot.gpu}
    command = ("worker", "start", "--pool", slot.pool, "--type", "process", *limit)
    return start_child(*command, environment={**environment, **sees})


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
