"""A stage's request as a cached Prefect task.

The fingerprint is the cache key. A Prefect hit proves only that a small record exists, so a stage counts as cached when
its artifact is really there, whole; otherwise the task runs again. What is returned is what the store holds.
"""

from __future__ import annotations

import signal
from typing import Any
from uuid import UUID

from prefect import State, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.tasks import exponential_backoff

from datasets.config import StoreConfig
from datasets.store import ArtifactRef, LeaseLost, Store, StoreUnavailable
from tasks.progress import Reporter, Terminal
from tasks.progress_page import ProgressPage
from tasks.records import StageRecords, record_name
from tasks.stage import Request, execute
from vqgan_core.training import TrainingInterrupted

#: What may be otherwise at the next try.
PASSING = (StoreUnavailable, LeaseLost, ConnectionError, TimeoutError)

#: What became of a stage: its name, "Cached" or "Completed", and the artifact.
Outcome = tuple[str, str, ArtifactRef]


def _record_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    request: Request = parameters["request"]
    return record_name(request.stage.kind, request.fingerprint)


def worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Storage and network faults pass; everything else would fail again.

    A lost lease is one: this process stood still, another run builds the artifact, and the next try is served by it.
    """
    return isinstance(state.result(raise_on_failure=False), PASSING)


@task(
    cache_policy=CacheKeyFnPolicy(cache_key_fn=_record_key),
    persist_result=True,
    result_serializer="json",
    cache_result_in_memory=False,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
)
def publish(request: Request, store: StoreConfig, reporter: Reporter) -> dict[str, Any]:
    """Build and publish one artifact; the result is its reference as plain JSON."""
    get_run_logger().info("%s: building %s", request.stage.name, request.fingerprint)
    try:
        return execute(request, Store.open(store), reporter).model_dump(mode="json")
    except TrainingInterrupted:  # the checkpoint is written
        if deployment.id and not _is_cancelled():
            signal.raise_signal(signal.SIGTERM)  # now Prefect may have its signal, and put the run back into its queue
        raise


def _is_cancelled() -> bool:
    """Whether people want the run around this task to end: its worker sees to it, and a crash would bring it back.

    Prefect (3.8.8) tells a process why it gets SIGTERM only while its own handler is in place, which a training's is.
    """
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(str(flow_run.id))).state
    return state is not None and state.is_cancelling()


def title(request: Request, name: str) -> str:
    """What a run of a stage is called: stage, config, what is special, the artifact."""
    stage, *special = request.label.split(" · ")
    return " · ".join([stage, name, *special, request.fingerprint[:8]])


def run(
    request: Request,
    store: StoreConfig,
    name: str,
    reporter: Reporter | None = None,
    timeout_seconds: float | None = None,
) -> Outcome:
    """Run a stage inside a flow: served from the cache, or built.

    Args:
        request: what is wanted.
        store: where from and where to.
        name: of the config, for people.
        reporter: where progress is told; None: on the run's page, and as lines.
        timeout_seconds: after which a try is interrupted, and the next one begins; None: never.

    Raises:
        Exception: whatever the stage raised, after the task's own retries.
    """
    shelf = Store.open(store)
    there = shelf.lookup(request.stage.kind, request.fingerprint) is not None
    state = publish.with_options(
        name=request.stage.name,
        task_run_name=title(request, name),
        result_storage=StageRecords.open(store),
        refresh_cache=not there,
        timeout_seconds=timeout_seconds,
    )(request, store, reporter or ProgressPage(Terminal()), return_state=True)
    state.result(raise_on_failure=True)
    found = shelf.lookup(request.stage.kind, request.fingerprint)
    assert found is not None, "a completed stage has published its artifact"
    return request.stage.name, state.name or state.type.value, found.ref
