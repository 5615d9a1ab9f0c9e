"""A real PostgreSQL for tests, on loopback, with a database of its own.

`.ci/get_postgresql.sh` unpacks Debian's packages without root, unless the machine has them installed; where neither is,
tests skip and name that command. PostgreSQL refuses to run as root: then it runs as `nobody`.

Use by importing the fixture: `from tests.postgres import postgres`.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.ceph import free_port

ROOT = Path(os.environ.get("TESSERA_POSTGRESQL", Path(__file__).resolve().parents[1] / ".postgresql"))
USER, PASSWORD = "tessera", "postgres-test-secret"
_BINARIES = "usr/lib/postgresql/*/bin/postgres"
_START_SECONDS = 60.0
#: It need not survive a power cut, and compiles no expressions: that needs a library of 100 MB.
_FLAGS = ("-h", "127.0.0.1", "-k", "", "-c", "fsync=off", "-c", "jit=off")


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int

    @property
    def prefect_url(self) -> str:
        """What Prefect's server is told."""
        return f"postgresql+asyncpg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

        async def ask() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database="postgres"
            )
            try:
                return [tuple(row) for row in await connection.fetch(query)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    def wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.fetch("SELECT 1")
            except (OSError, asyncpg.PostgresError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"no answer after {_START_SECONDS:g} s: {log.read_text()}"
                time.sleep(0.1)
            else:
                return


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that is empty."""
    home = Path(tempfile.mkdtemp(prefix="tessera-postgres-"))  # pytest's own folders are closed to other users
    try:
        with _running(home) as found:
            yield found
    finally:
        shutil.rmtree(home)


@contextmanager
def _running(home: Path) -> Iterator[Postgres]:
    binaries, libraries = _installation(home)
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
    environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(libraries), "HOME": str(home), "LC_ALL": "C"}
    options: dict[str, Any] = {"env": environment, "cwd": home, **user}
    (home / "password").write_text(PASSWORD)
    (home / "password").chmod(0o644)
    initdb = [
        binaries / "initdb",
        "-D",
        home / "data",
        "-U",
        USER,
        "--pwfile",
        home / "password",
        "-A",
        "scram-sha-256",
    ]
    subprocess.run([*initdb, "-E", "UTF8", "--no-sync"], check=True, capture_output=True, **options)
    found = Postgres(free_port())
    with (home.parent / f"{home.name}.log").open("wb") as log:
        command = [binaries / "postgres", "-D", home / "data", "-p", str(found.port), *_FLAGS]
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
    try:
        found.wait(process, Path(log.name))
        yield found
    finally:
        process.send_signal(signal.SIGINT)  # it closes connections and ends
        process.wait(timeout=30)
        Path(log.name).unlink()


def _installation(home: Path) -> tuple[Path, Path]:
    """Its programs and its libraries; of what was unpacked into the checkout a copy that other users can read."""
    if found := sorted(ROOT.glob(_BINARIES)):
        root = home / "installed"
        shutil.copytree(ROOT, root, symlinks=True)
        home.chmod(0o755)
        return root / found[-1].relative_to(ROOT).parent, root / "usr/lib/x86_64-linux-gnu"
    if found := sorted(Path("/").glob(_BINARIES)):
        return found[-1].parent, Path("/usr/lib/x86_64-linux-gnu")
    pytest.skip("there is no PostgreSQL: .ci/get_postgresql.sh unpacks one")
