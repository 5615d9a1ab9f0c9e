"""A process that runs a pipeline with plain `execute` and keeps a journal; tests start it, watch it and kill it.

    python -m tests.tasks.drive CONFIG.yaml JOURNAL.jsonl [LAST_STAGE]

Each line of the journal is one write, so a kill cuts nothing that was said before it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.progress import Bar


class Journal:
    """A reporter that writes down what happens, and when."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, **entry: Any) -> None:
        """Append a line."""
        os.write(self._file, json.dumps({"time": time.time(), **entry}).encode() + b"\n")

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:
        """A count that is written down."""
        self.write(event="open", label=label)
        yield _JournalBar(self, label)

    def say(self, message: str) -> None:
        """Write it down."""
        self.write(event="say", message=message)


class _JournalBar:
    def __init__(self, journal: Journal, label: str) -> None:
        self._journal, self._label = journal, label

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Write it down."""
        self._journal.write(event="update", label=self._label, done=done)

    def say(self, message: str) -> None:
        """Write it down."""
        self._journal.say(message)


def main(config_path: str, journal_path: str, last: str = "evaluate") -> None:
    """Run all stages, or those up to one."""
    from tasks.config import PipelineConfig  # noqa: PLC0415 - decoding children import their parent's main module
    from tasks.pipeline import STEPS, Pipeline  # noqa: PLC0415 - likewise
    from tasks.stage import execute  # noqa: PLC0415 - likewise

    journal = Journal(Path(journal_path))
    pipeline = Pipeline(PipelineConfig.load(config_path))
    for name in list(STEPS)[: list(STEPS).index(last) + 1]:
        journal.write(event="ask", stage=name)
        ref = execute(pipeline.request(name), pipeline.store, journal)
        journal.write(event="have", stage=name, ref=ref.model_dump(mode="json"))


if __name__ == "__main__":
    main(*sys.argv[1:])
