"""What a Prefect server is given: work pools, deployments, automations. Again and again, it changes nothing twice."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry
from prefect.workers.process import ProcessWorker

from flows.local_server import ROOT, ServerError, start_child

TAG = "tessera"  # of every deployment, and so of its runs
AUTOMATIONS = ROOT / "automations.yaml"
POOLS: Mapping[str, str] = {
    "cpu": "Sharding and evaluation: any machine.",
    "gpu": "Training, encoding and sampling: one slot a GPU.",
}


def ensure_pools(client: SyncPrefectClient, num_gpus: int) -> list[str]:
    """Create the work pools that are not there; those that are stay as people have set them.

    A slot is counted from the states of runs in the server's database, so a restart of the server loses none.

    Returns:
        The names of the new ones.
    """
    made = []
    for name, description in POOLS.items():
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    description=description,
                    type=ProcessWorker.type,
                    base_job_template=ProcessWorker.get_default_base_job_template(),
                    concurrency_limit=num_gpus if name == "gpu" else None,
                )
            )
            made.append(name)
    return made


def read_automations(path: Path = AUTOMATIONS) -> list[AutomationCore]:
    """The automations of the repository's file."""
    content: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [AutomationCore.model_validate(entry) for entry in content["automations"]]


def ensure_automations(client: SyncPrefectClient, automations: list[AutomationCore]) -> None:
    """Create each automation, or bring the one of its name up to date; whether it is switched on is left to people."""
    for wanted in automations:
        there = client.read_automations_by_name(wanted.name)
        if there:
            client.update_automation(there[0].id, wanted.model_copy(update={"enabled": there[0].enabled}))
        else:
            client.create_automation(wanted)


def requeue_crashed(client: SyncPrefectClient) -> int:
    """Put runs back into their queues whose crash no automation saw, because the server itself was ending.

    Returns:
        How many.
    """
    crashed = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
        )
    )
    for run in crashed:
        client.set_flow_run_state(run.id, AwaitingRetry(message="The server ended while it ran; it goes on."))
    return len(crashed)


def deploy_all(environment: Mapping[str, str]) -> None:
    """Put every deployment of prefect.yaml on the server.

    Raises:
        ServerError: Prefect refused; what it said.
    """
    process = start_child("deploy", "--all", environment=environment, log=subprocess.PIPE)
    said, _ = process.communicate()
    if process.returncode:
        raise ServerError(f"the deployments of prefect.yaml were refused: {' '.join(said.decode().split())[-600:]}")
