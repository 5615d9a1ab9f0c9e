"""Child processes of tests: started with a mark in their environment, by which all that they start is found again."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
_NAME = "TESSERA_TEST_MARK"


@dataclass
class Marked:
    """Processes of one test."""

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    adopted: set[int] = field(default_factory=set)
    """Processes that are of this test, too, without its mark: forks of a process that many tests share."""

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        largest_file: int = resource.RLIM_INFINITY,
        output: IO[str] | None = None,
        start_new_session: bool = False,
        takes_input: bool = False,
    ) -> subprocess.Popen[str]:
        """Start `python ARGUMENTS…` in the checkout; one thread, so that two of them do not fight for two cores.

        Args:
            arguments: What Python is given.
            environment: Variables besides those of this process.
            start_new_session: Whether it leads a process group of its own, as a job of a shell does.
            largest_file: Bytes that a file of it may hold: a full disk, seen from the child.
            output: Where all its output goes; None: into pipes.
            takes_input: Whether its standard input is a pipe.
        """

        def prepare() -> None:
            _heed_interrupts()
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        given = {"OMP_NUM_THREADS": "1", **self.environment, **(environment or {})}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **given},
            text=True,
            stdin=subprocess.PIPE if takes_input else None,
            stdout=output or subprocess.PIPE,
            stderr=output or subprocess.PIPE,
            start_new_session=start_new_session,
            preexec_fn=prepare,  # noqa: PLW1509 - nothing of ours holds a lock across a fork
        )

    @property
    def environment(self) -> dict[str, str]:
        """What marks a process, and all that it starts."""
        return {_NAME: self.mark}

    def survivors(self) -> dict[int, str]:
        """Processes with the mark that are not zombies: pid and command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = int(folder.name) in self.adopted
                if ours or self.mark in (folder / "environ").read_bytes().decode(errors="replace"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # gone, or not ours
        return {pid: command for pid, command in found.items() if command}

    def assert_gone(self, seconds: float = 15.0) -> None:
        """Wait until nothing with the mark is left."""
        deadline = time.monotonic() + seconds
        while (left := self.survivors()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"still running: {left}"

    def stop_all(self) -> None:
        """Kill whatever is left, for the end of a test that failed."""
        for pid in self.survivors():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue


def _heed_interrupts() -> None:
    """A job that a shell starts in the background inherits a deaf ear for Ctrl-C; what is tested has a good one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
