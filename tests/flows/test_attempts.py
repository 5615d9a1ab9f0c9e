"""A flow run that begins again: what it sweeps, when it gives up, and what a server that starts puts back."""

from __future__ import annotations

import pytest
from prefect import State, flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run
from prefect.states import Completed, Crashed, Running

from flows.attempts import MAX_RUNS, TooManyAttempts, begin
from flows.server.furnish import requeue_crashed

pytestmark = pytest.mark.usefixtures("harness")
COUNT = "PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT"  # Prefect's own way to say it for a test


@task
def stage() -> None:
    """Never run: its task runs are made by hand."""


@flow
def left_behind() -> dict[str, str]:
    """A flow run with a task of a dead process and a finished one; the states of both after `begin`."""
    with get_client(sync_client=True) as client:
        runs = {
            name: client.create_task_run(stage, flow_run_id=flow_run.id, dynamic_key=name, name=name, state=state)
            for name, state in (("orphan", Running()), ("done", Completed()))
        }
        begin()
        states = {name: client.read_task_run(run.id).state for name, run in runs.items()}
    return {name: state.type.value for name, state in states.items() if state is not None}


def test_the_first_run_sweeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNT, "1")
    assert left_behind() == {"orphan": "RUNNING", "done": "COMPLETED"}


def test_the_next_one_sweeps_what_the_dead_one_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNT, "2")
    assert left_behind() == {"orphan": "CRASHED", "done": "COMPLETED"}


def test_an_endless_crash_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNT, str(MAX_RUNS + 1))
    with pytest.raises(TooManyAttempts, match=f"has begun {MAX_RUNS} times and its process died each time"):
        left_behind()


def test_a_server_that_starts_puts_crashed_runs_back() -> None:
    @flow
    def nothing() -> None:
        """Never run here."""

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(nothing), name="by-hand")

        def run(tags: list[str], state: State[None]) -> FlowRun:
            return client.create_flow_run_from_deployment(deployment, tags=tags, state=state)

        ours = run(["tessera", "gpu"], Crashed(message="the server ended"))
        others = run(["gpu"], Crashed(message="not of ours"))
        done = run(["tessera"], Completed())
        assert requeue_crashed(client) == 1
        states = [client.read_flow_run(run.id).state for run in (ours, others, done)]
    assert [(state.type.value, state.name) for state in states if state is not None] == [
        ("SCHEDULED", "AwaitingRetry"), ("CRASHED", "Crashed"), ("COMPLETED", "Completed"),
    ]  # fmt: skip
