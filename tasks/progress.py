"""Progress of a stage, for people: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 5.0


class Bar(Protocol):
    """One running count."""

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Say how much is done, and the latest figures."""

    def say(self, message: str) -> None:
        """Say something that a person should read."""


class Reporter(Protocol):
    """Where stages report to."""

    def bar(self, label: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open a count of `total` units; None: nobody knows how many."""

    def say(self, message: str) -> None:
        """Say something that a person should read, outside any count."""


class Quiet:
    """Reports nothing; messages still reach stderr, since they are for people."""

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:  # noqa: ARG002 - the protocol's arguments
        """A count that shows nothing."""
        yield _QuietBar(label)

    def say(self, message: str) -> None:
        """Print the message."""
        sys.stderr.write(f"{message}\n")


class _QuietBar:
    def __init__(self, label: str) -> None:
        self._label = label

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Show nothing."""

    def say(self, message: str) -> None:
        """Print the message."""
        sys.stderr.write(f"{self._label}: {message}\n")


class Terminal:
    """Rich bars on a terminal; plain lines where stderr is a file or a pipe."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:
        """A visible count."""
        if not self._console.is_terminal:
            line_bar = _LineBar(label, total, unit)
            yield line_bar
            line_bar.close()
            return
        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
        )
        with Progress(*columns, console=self._console, transient=False) as progress:
            yield _RichBar(progress, label, total)

    def say(self, message: str) -> None:
        """Print the message."""
        self._console.print(message, markup=False, highlight=False)


class _RichBar:
    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total, figures="")

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Move the bar."""
        fields = {"figures": figures(metrics)} if metrics else {}
        self._progress.update(self._task, completed=done, **fields)  # type: ignore[arg-type]  # rich types **fields as any of its own arguments

    def say(self, message: str) -> None:
        """Print above the bar."""
        self._progress.console.print(message)


class _LineBar:
    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start = self._last = time.monotonic()
        self._first: int | None = None
        self._done = 0
        self._shown = False

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Print a line if the last one is old enough."""
        self._first = done if self._first is None else self._first
        self._done = done
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_SECONDS:
            self._last = now
            self._print(now, metrics)

    def say(self, message: str) -> None:
        """Print the message."""
        sys.stderr.write(f"{self._label}: {message}\n")

    def close(self) -> None:
        """Print the end of a count that took longer than two seconds."""
        seconds = time.monotonic() - self._start
        if self._shown or seconds > 2:
            sys.stderr.write(f"{self._label}: {self._done} {self._unit} in {seconds:.0f} s\n")

    def _print(self, now: float, metrics: Mapping[str, float] | None) -> None:
        self._shown = True
        rate = (self._done - (self._first or 0)) / max(now - self._start, 1e-9)
        known = self._total is not None and rate > 0
        left = f", {((self._total or 0) - self._done) / rate:.0f} s left" if known else ""
        of_total = "" if self._total is None else f"/{self._total}"
        text = f"{self._label}: {self._done}{of_total} {self._unit}, {rate:.1f}/s{left}"
        sys.stderr.write(f"{text}  {figures(metrics or {})}\n")


def figures(metrics: Mapping[str, float] | None, most: int = 4) -> str:
    """The first few metrics in one short line."""
    return " ".join(f"{name} {value:.4g}" for name, value in list((metrics or {}).items())[:most])
