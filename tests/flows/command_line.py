"""The command line, called in this process, and what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from flows.cli import main


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
        """The one line that says what is wrong; nothing else is on stderr, and no result on stdout."""
        assert self.status in {1, 2}, f"status {self.status}: {self.out}{self.err}"
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("tessera"), self.err
        return self.err.rstrip("\n")


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
