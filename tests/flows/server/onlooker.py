"""What one sees of a run from outside: its processes, and the pieces that it leaves in the store."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.flows.server.service import until

_CHECKPOINT = re.compile(r"checkpoint-(\d{6})-step-(\d{9})-")
#: Where a stage leaves what survives a kill.
_PIECES = {
    "corpus": "parts/corpus",
    "tokenizer": "work/tokenizer",
    "tokens": "parts/tokens",
    "prior": "work/prior",
    "samples": "work/samples",
    "evaluation": "work/evaluation",
}


def processes(run: str) -> list[int]:
    """The process of a run, wherever its worker is, and after it all that it started."""
    mark = f"PREFECT__FLOW_RUN_ID={run}\0".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            of_run = mark in (folder / "environ").read_bytes()
            if of_run and b"\0hook\0" not in (folder / "cmdline").read_bytes():  # the worker's own, after a crash
                found.append(int(folder.name))
        except OSError:
            continue  # gone meanwhile
    return sorted(found)


def send(run: str, sign: signal.Signals) -> None:
    """Send a signal to the process of a run."""
    os.kill(processes(run)[0], sign)


def kill(run: str, process: int) -> None:
    """Kill the process of a run, and wait until nothing of it is left that could write."""
    os.kill(process, signal.SIGKILL)
    until(lambda: not processes(run), "the end of a killed process and of what it started", pause=0.01)


@dataclass
class Onlooker:
    """Watches one store."""

    root: Path
    written: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    """Checkpoints that were seen, by kind: how many had been written before it, and its step."""

    def last_step(self, kind: str) -> int:
        """The step of the newest checkpoint."""
        return max((step for _, step in self._checkpoints(kind)), default=0)

    def has_begun(self, kind: str, step: int = 0) -> bool:
        """Whether a stage has left something; of a training, a checkpoint of this step or a later one."""
        if step:
            return self.last_step(kind) >= step
        return bool(self._pieces(kind))

    def is_finished(self, kind: str) -> bool:
        """Whether its artifact is published."""
        return any((self.root / kind).rglob("manifest.json"))

    def _checkpoints(self, kind: str) -> set[tuple[int, int]]:
        found = {(int(match[1]), int(match[2])) for name in self._pieces(kind) if (match := _CHECKPOINT.match(name))}
        self.written.setdefault(kind, set()).update(found)
        return found

    def _pieces(self, kind: str) -> list[str]:
        """Names of files. Folders may vanish meanwhile, which `os.walk` bears."""
        return [name for _, _, names in os.walk(self.root / _PIECES[kind]) for name in names]
