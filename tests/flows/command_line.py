"""The command line, called in this process, and what it said."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from flows.cli import main

_PROGRESS = re.compile(r"[a-z ]+: \d+(/\d+)? [a-z]+(,| in) ")
"""What a stage says that takes longer than two seconds."""


@dataclass(frozen=True)
class Said:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output, which has to be JSON and nothing else."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong; besides it only progress is on stderr, and no result on stdout."""
        assert self.status in {1, 2}, f"status {self.status}: {self.out}{self.err}"
        assert self.out == ""
        *before, last = self.err.splitlines()
        assert last.startswith("tessera"), self.err
        assert all(_PROGRESS.match(line) for line in before), self.err
        return last


class CommandLine:
    """`cli("ls", "--json")` runs `tessera ls --json`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        """Run a command."""
        self._capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        return Said(status, *self._capsys.readouterr())
