"""Which server this process talks to while one runs for it."""

from __future__ import annotations

import os
import threading

from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from flows.local_server import api_of_this_process


def test_any_thread_and_child_talks_to_the_server() -> None:
    """A thread of nobody's context saw no server, and Prefect started one for it."""
    seen: list[str | None] = []
    before = PREFECT_API_URL.value()
    with api_of_this_process("http://127.0.0.1:9/api"):
        thread = threading.Thread(target=lambda: seen.append(PREFECT_API_URL.value()))
        thread.start()
        thread.join()
        assert seen == [PREFECT_API_URL.value()] == [os.environ["PREFECT_API_URL"]] == ["http://127.0.0.1:9/api"]
    assert PREFECT_API_URL.value() == before
    assert not EventsWorker._instances


def test_a_sender_of_events_does_not_outlive_its_server(harness: str) -> None:
    """It stayed with the server that it was started for, and all events of later runs at another one were lost."""
    with temporary_settings({PREFECT_API_URL: harness}):
        sender = EventsWorker.instance()
    with api_of_this_process("http://127.0.0.1:9/api"):
        assert not EventsWorker._instances
    assert sender._stopped


def test_runs_do_not_wait_for_heartbeats_that_nobody_hears() -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        with api_of_this_process("http://127.0.0.1:9/api"):
            assert get_current_settings().flows.heartbeat_frequency is None
        assert get_current_settings().flows.heartbeat_frequency == 30
