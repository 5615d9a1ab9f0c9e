"""Runs of tests in processes of their own: what they hold, what they said, how they end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.processes import Marked
from tests.tasks.forker import Forked, Forker


@dataclass
class Run:
    """A run over a store, and its journal."""

    process: Forked
    journal: Path
    root: Path

    @classmethod
    def start(
        cls, forker: Forker, marked: Marked, config: Path, journal: Path, root: Path, last: str = "evaluate"
    ) -> Self:
        """Begin it."""
        return cls(forker.begin(config, journal, last, marked), journal, root)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Whole lines of the journal so far."""
        text = self.journal.read_text() if self.journal.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def holds(self, kind: str) -> bool:
        """Whether it computes an artifact of this kind now: by the claims in the store."""
        for folder in self.root.glob(f"claims/{kind}-*"):
            names = list(folder.glob("*.json"))
            holder = json.loads(max(names).read_bytes()) if names else {"released": True}
            if not holder["released"] and holder["pid"] == self.process.pid:
                return True
        return False

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Poll; false if the process ends first."""
        while not condition():
            if self.process.poll() is not None:
                return False
            time.sleep(0.003)
        return True

    def said(self, words: str) -> bool:
        """Whether it has told a person something with these words."""
        return any(entry["event"] == "say" and words in entry["message"] for entry in self.entries)

    def finish(self, seconds: float = 250) -> None:
        """Wait for its success."""
        assert self.process.wait(seconds) == 0, self.process.errors

    def kill(self) -> bool:
        """SIGKILL; whether it was alive to receive it."""
        if self.process.poll() is None:
            self.process.send(signal.SIGKILL)
        status = self.process.wait()
        assert status in (-signal.SIGKILL, 0), self.process.errors
        return status == -signal.SIGKILL
