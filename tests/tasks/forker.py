"""A process that has imported the pipeline and forks itself for each run: runs begin at once, to be killed.

    python -m tests.tasks.forker    a line of JSON [CONFIG.yaml, JOURNAL.jsonl, LAST_STAGE, ENVIRONMENT] starts a run

It answers with the run's pid. When the run is over, the file JOURNAL.status holds its exit status. Forking is safe
because nothing but imports has happened: no thread, no connection. They are not at the top: decoding children, as all
of multiprocessing's, import their parent's main module first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from tests.processes import Marked
from tests.tasks.drive import main as drive

__all__ = ["Forked", "Forker"]

#: Everything that a run imports sooner or later, PyTorch's optimisers among others.
IMPORTED = ("tasks.pipeline", "s3fs", "torch._dynamo", "matplotlib.figure", "scipy.linalg")


@dataclass(frozen=True)
class Forked:
    """A run."""

    pid: int
    _journal: Path

    @property
    def errors(self) -> str:
        """What it has said besides its journal."""
        return Path(f"{self._journal}.log").read_text()

    def poll(self) -> int | None:
        """Its exit status, negative if a signal ended it; None while it runs."""
        path = Path(f"{self._journal}.status")
        return int(path.read_text()) if path.exists() else None

    def wait(self, seconds: float = 250) -> int:
        """Wait for its end; its exit status."""
        deadline = time.monotonic() + seconds
        while (status := self.poll()) is None:
            assert time.monotonic() < deadline, f"still running after {seconds:g} s: {self.errors}"
            time.sleep(0.003)
        return status

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, sign)


@dataclass
class Forker:
    """The parent of runs, as a test sees it."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, marked: Marked) -> Self:
        """Start it; it takes runs as soon as it has imported the pipeline."""
        return cls(marked.start("-m", "tests.tasks.forker", takes_input=True))

    def begin(self, config: Path, journal: Path, last: str, marked: Marked | None = None) -> Forked:
        """Begin a run up to a stage; what it starts itself is marked as of this test."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        environment = marked.environment if marked is not None else {}
        requests.write(json.dumps([str(config), str(journal), last, environment]) + "\n")
        requests.flush()
        pid = int(answers.readline())
        if marked is not None:
            marked.adopted.add(pid)
        return Forked(pid, journal)


def _serve() -> None:
    for name in IMPORTED:
        import_module(name)
    running: dict[int, tuple[int, str]] = {}
    while True:
        for ready in wait([sys.stdin.fileno(), *running]):
            assert isinstance(ready, int)
            if ready in running:
                _bury(ready, *running.pop(ready))
            elif line := sys.stdin.readline():  # one at a time: the next is asked for when this one is answered
                pid, journal = _fork(*json.loads(line))
                running[os.pidfd_open(pid)] = pid, journal
                sys.stdout.write(f"{pid}\n")
                sys.stdout.flush()
            else:
                return


def _fork(config: str, journal: str, last: str, environment: Mapping[str, str]) -> tuple[int, str]:
    assert threading.active_count() == 1, "a fork would lose the other threads"
    pid = os.fork()
    if pid == 0:
        os.environ.update(environment)
        _run(config, journal, last)
    return pid, journal


def _bury(handle: int, pid: int, journal: str) -> None:
    os.close(handle)
    _, status = os.waitpid(pid, 0)
    new = Path(f"{journal}.status.new")
    new.write_text(str(os.waitstatus_to_exitcode(status)))
    new.rename(f"{journal}.status")


def _run(config: str, journal: str, last: str) -> None:
    log = os.open(f"{journal}.log", os.O_WRONLY | os.O_CREAT, 0o644)
    for stream, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(target, stream)
    try:
        drive(config, journal, last)
    except BaseException:  # noqa: BLE001 - the end of this process: nothing may come back into the parent's loop
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve()
