"""When each validation of a training came, in seconds of the machine: for pages, never for byte-exact files.

A run that goes on after a kill counts on from the last validation that it keeps; what was lost is not counted.
"""

from __future__ import annotations

import json
import time
from typing import Any

from datasets.store import Workspace
from tasks.checkpoints import newest_step
from vqgan_core.config import canonical_json

NAME = "seconds.jsonl"


class Stopwatch:
    """Laps of one training, kept in its workspace.

    Args:
        workspace: of the artifact.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        kept = read_laps(workspace.get(NAME) or b"")
        reached = newest_step(workspace)
        self._laps = [lap for lap in kept if lap["step"] <= reached]
        last = self._laps[-1] if self._laps else {"seconds": 0.0, "cpu_seconds": 0.0}
        self._wall = time.monotonic() - last["seconds"]
        self._cpu = time.process_time() - last["cpu_seconds"]

    def lap(self, step: int) -> None:
        """Note the time of a validation."""
        seconds, cpu_seconds = time.monotonic() - self._wall, time.process_time() - self._cpu
        self._laps.append({"step": step, "seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)})
        self._workspace.put(NAME, self.to_bytes())

    def to_bytes(self) -> bytes:
        """All laps as JSON lines."""
        return b"".join(canonical_json(lap) + b"\n" for lap in self._laps)


def read_laps(data: bytes) -> list[dict[str, Any]]:
    """Laps from their file."""
    return [json.loads(line) for line in data.splitlines()]
