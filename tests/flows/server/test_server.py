"""`tessera server`: what is in it, what it refuses, how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import main
from flows.local_server import Address
from flows.server import serve
from flows.server.serve import Plan
from tests.flows.conftest import ROOT
from tests.flows.server.service import Service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployments() -> dict[str, dict[str, Any]]:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return {deployment["name"]: deployment for deployment in content["deployments"]}


def _deployed(service: Service) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in service.found("/deployments/filter", {})}


def test_it_has_every_deployment(service: Service, deployments: dict[str, dict[str, Any]]) -> None:
    rows = _deployed(service)
    for name, deployment in deployments.items():
        row = rows[name]
        assert row["entrypoint"] == deployment["entrypoint"]
        assert row["work_pool_name"] == deployment["work_pool"]["name"]
        assert row["job_variables"] == deployment["work_pool"]["job_variables"]
        assert row["tags"] == deployment["tags"]
        assert row["enforce_parameter_schema"] is True
        assert row["description"] == deployment["description"]
        assert row["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]


def test_a_wrong_parameter_is_refused_before_there_is_a_run(service: Service) -> None:
    path = f"/deployments/{service.deployment('end-to-end')['id']}/create_flow_run"
    refused = service.post(path, {"parameters": {"size_px": 0}})
    assert refused.status_code == 409
    assert "size_px" in refused.json()["detail"]


def test_pools_and_automations_are_there(service: Service) -> None:
    pools = {pool["name"]: pool for pool in service.found("/work_pools/filter", {})}
    assert pools["gpu"]["concurrency_limit"] == 1, "one slot a GPU"
    assert pools["cpu"]["concurrency_limit"] is None
    wanted = yaml.safe_load((ROOT / "automations.yaml").read_text(encoding="utf-8"))["automations"]
    there = {row["name"]: row for row in service.found("/automations/filter", {})}
    assert set(there) == {entry["name"] for entry in wanted}
    for entry in wanted:
        row = there[entry["name"]]
        assert row["enabled"]
        for part in ("trigger", "actions"):
            assert _holds(row[part], entry[part]), (row[part], entry[part])


def test_furnishing_again_changes_nothing(service: Service) -> None:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - takes its settings from the environment

    from flows.local_server import api_of_this_process  # noqa: PLC0415
    from flows.server import furnish  # noqa: PLC0415

    def ids() -> dict[str, str]:
        paths = ("/automations/filter", "/work_pools/filter")
        return {f"{path} {row['name']}": row["id"] for path in paths for row in service.found(path, {})}

    before = ids()
    with api_of_this_process(service.url), get_client(sync_client=True) as client:
        assert furnish.ensure_pools(client, num_gpus=5) == []
        furnish.ensure_automations(client, furnish.read_automations())
    assert ids() == before
    pools = {pool["name"]: pool["concurrency_limit"] for pool in service.found("/work_pools/filter", {})}
    assert pools["gpu"] == 1, "what people have set stays"


def test_every_gpu_has_a_worker_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def slots(num_gpus: int) -> list[tuple[str, str | None]]:
        plan = Plan(Address(), ("cpu", "gpu"), num_gpus, Path())
        return [(slot.pool, slot.gpu) for slot in serve._slots(plan)]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots(1) == [("cpu", None), ("gpu", None)], "it sees what the machine has"
    assert slots(2) == [("cpu", None), ("gpu", "0"), ("gpu", "1")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert slots(2) == [("cpu", None), ("gpu", "2"), ("gpu", "5")]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5"])  # noqa: S104 - refused is what is tested
def test_other_machines_are_let_in_only_with_a_password(
    host: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    assert main(["server", "--host", host]) == 2
    assert "set PREFECT_SERVER_API_AUTH_STRING=USER:PASSWORD" in capsys.readouterr().err


def _holds(there: Any, wanted: Any) -> bool:
    """Whether what is there says everything that was wanted, lists in any order (some are sets); it may say more."""
    if isinstance(wanted, dict):
        return all(name in there and _holds(there[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return len(there) == len(wanted) and all(any(_holds(item, each) for item in there) for each in wanted)
    return bool(there == wanted)
