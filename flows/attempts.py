"""A flow run that begins again after its process died: it cleans up after the dead one, and does not go on for ever.

A killed process leaves its task run `Running` in the server's database, where nothing watches it. And a run that is put
back into its queue whenever it crashes (automations.yaml) would do so for ever where the crash is its own fault, such
as a lack of memory.
"""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Crashed

MAX_RUNS = 12


class TooManyAttempts(RuntimeError):  # noqa: N818 - says what is the case
    """A run has crashed so often that it will crash again."""


def begin() -> None:
    """Called by every flow before anything else.

    Raises:
        TooManyAttempts: this run has begun more than MAX_RUNS times.
    """
    count = int(flow_run.run_count or 0)
    if count <= 1 or not flow_run.id:
        return
    with get_client(sync_client=True) as client:
        swept = _sweep(client)
    get_run_logger().info("run %d of at most %d; %d task runs of dead processes swept", count, MAX_RUNS, swept)
    if count > MAX_RUNS:
        raise TooManyAttempts(
            f"this run has begun {count - 1} times and its process died each time (for lack of memory?): "
            "see its log, change what is wrong, and start it again; what is finished is kept"
        )


def _sweep(client: SyncPrefectClient) -> int:
    """Mark task runs that a dead process left behind as crashed."""
    alive = [StateType.RUNNING, StateType.PENDING]
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=alive))),
    )
    for task_run in left:
        client.set_task_run_state(task_run.id, Crashed(message="Its process was lost."), force=True)
    return len(left)
