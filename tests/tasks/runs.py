"""Driver processes of tests: what they hold, what they said, how they end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.processes import Marked


@dataclass
class Run:
    """A driver process over a store, and its journal."""

    process: subprocess.Popen[str]
    journal: Path
    root: Path

    @classmethod
    def start(cls, marked: Marked, config: Path, journal: Path, root: Path, last: str = "evaluate") -> Self:
        """Start the driver."""
        return cls(marked.start("-m", "tests.tasks.drive", str(config), str(journal), last), journal, root)

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
        _, errors = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, errors

    def kill(self) -> bool:
        """SIGKILL; whether it was alive to receive it."""
        self.process.kill()
        _, errors = self.process.communicate()
        assert self.process.returncode in (-9, 0), errors
        return self.process.returncode == -9
