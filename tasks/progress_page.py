"""Progress of long stages on a run's page in Prefect: a percentage, the rate, what is left, the latest figures.

Training never waits for the server: a thread of its own tells it the latest state every few seconds. A server that
does not answer is told the next state.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from tasks.progress import Bar, Reporter, figures
from tasks.report.wording import duration

FIRST_AFTER_SECONDS = 3.0
EVERY_SECONDS = 5.0


class ProgressPage:
    """A reporter that shows long counts on the page of the run around it, and tells another reporter everything."""

    def __init__(self, other: Reporter) -> None:
        self._other = other

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:
        """A count; it appears once it has lasted a few seconds."""
        with self._other.bar(label, total, unit) as bar:
            shown = _Shown(bar, label, total, unit)
            try:
                yield shown
            finally:
                shown.close()

    def say(self, message: str) -> None:
        """Put it into the run's log."""
        get_run_logger().info(message)
        self._other.say(message)


class _Shown:
    """One count; `update` only notes what the thread will tell."""

    def __init__(self, bar: Bar, label: str, total: int | None, unit: str) -> None:
        self._bar, self._label, self._total, self._unit = bar, label, total, unit
        self._start = time.monotonic()
        self._latest: tuple[int, Mapping[str, float]] = (0, {})
        self._first: tuple[int, float] | None = None
        self._artifact: UUID | None = None
        self._over = threading.Event()
        context = contextvars.copy_context()  # says to which run the page belongs
        self._thread = threading.Thread(target=context.run, args=(self._tell,), name=f"progress {label}", daemon=True)
        self._thread.start()

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Note how much is done, and the latest figures."""
        if self._first is None:
            self._first = (done, time.monotonic())
        self._latest = (done, metrics or self._latest[1])
        self._bar.update(done, metrics)

    def say(self, message: str) -> None:
        """Put it into the run's log."""
        get_run_logger().info("%s: %s", self._label, message)
        self._bar.say(message)

    def close(self) -> None:
        """Tell the end, if the count was shown at all."""
        self._over.set()
        self._thread.join(timeout=EVERY_SECONDS)

    def _tell(self) -> None:
        pause = FIRST_AFTER_SECONDS
        while not self._over.wait(pause):
            pause = EVERY_SECONDS
            self._tell_once()
        if self._artifact is not None:
            self._tell_once()

    def _tell_once(self) -> None:
        done, metrics = self._latest
        percent = 100.0 * done / self._total if self._total else 0.0
        text = self._text(done, metrics)
        try:
            if self._artifact is None:
                self._artifact = cast(UUID, create_progress_artifact(percent, description=text))
            else:
                update_progress_artifact(self._artifact, percent, description=text)
        except (httpx.HTTPError, PrefectException) as error:
            logging.getLogger(__name__).warning("the server could not be told of progress: %s", error)

    def _text(self, done: int, metrics: Mapping[str, float]) -> str:
        first, since = self._first or (0, self._start)
        rate = (done - first) / max(time.monotonic() - since, 1e-9)
        parts = [f"{self._label}: {done:,}" + (f" of {self._total:,}" if self._total else "") + f" {self._unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g} {self._unit}/s")
            if self._total and done < self._total:
                parts.append(f"{duration((self._total - done) / rate)} left")
        if metrics:
            parts.append(figures(metrics))
        return " · ".join(parts)
