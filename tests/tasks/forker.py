"""A process that has imported the pipeline and forks itself for each run: runs begin at once, to be killed.

    python -m tests.tasks.forker          a line of JSON [CONFIG.yaml, JOURNAL.jsonl, LAST_STAGE] starts a run

It answers with the run's pid and, when the run is over, with its exit status. Forking is safe because nothing but
imports has happened: no thread, no connection. They are not at the top: decoding children, as all of multiprocessing's,
import their parent's main module first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Self

from tests.processes import Marked
from tests.tasks.drive import main as drive

__all__ = ["Forker"]


@dataclass
class Forker:
    """The parent of runs, as a test sees it."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, marked: Marked) -> Self:
        """Start it; it takes runs as soon as it has imported the pipeline."""
        return cls(marked.start("-m", "tests.tasks.forker", takes_input=True))

    def begin(self, config: Path, journal: Path, last: str) -> int:
        """Start a run up to a stage; its pid. What it says goes to JOURNAL.log."""
        requests = self.process.stdin
        assert requests is not None
        requests.write(json.dumps([str(config), str(journal), last]) + "\n")
        requests.flush()
        return int(self._answers.readline())

    def end(self) -> int:
        """Wait for the end of the run; its exit status, negative if a signal ended it."""
        return int(self._answers.readline())

    @property
    def _answers(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout


def _serve() -> None:
    import_module("tasks.pipeline")
    import_module("s3fs")
    for line in sys.stdin:
        assert threading.active_count() == 1, "a fork would lose the other threads"
        pid = os.fork()
        if pid == 0:
            _run(*json.loads(line))
        _answer(pid)
        _, status = os.waitpid(pid, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


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
