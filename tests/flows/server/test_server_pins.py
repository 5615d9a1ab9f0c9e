"""The server starts and its scheduler works with the versions that are installed.

With Prefect 3.8.8 and SQLAlchemy 2.1 a server starts, deploys and shows everything, and creates no scheduled run: the
only sign is a line in its log. With a FastAPI above 0.152 it does not start. Hence the pins, and this test of them.
"""

from __future__ import annotations

import pytest

from tests.flows.server.service import Service, until


@pytest.mark.slow
def test_the_scheduler_creates_runs(service: Service) -> None:
    service.prefect(
        "deploy", "flows.shard.shard", "--name", "nightly", "--pool", "cpu", "--cron", "0 3 * * *",
        "--timezone", "Europe/Berlin", "--param", "preset=digits",
    )  # fmt: skip
    (deployment,) = service.found("/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    assert deployment["schedules"][0]["schedule"] == {
        "cron": "0 3 * * *", "timezone": "Europe/Berlin", "day_or": True,
    }  # fmt: skip
    path, wanted = "/flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}}
    runs = until(lambda: service.found(path, wanted), f"a scheduled run: see {service.home}/tessera-server.log")
    assert all(run["state"]["type"] == "SCHEDULED" and run["auto_scheduled"] for run in runs)
    assert all(run["parameters"] == {"preset": "digits"} for run in runs)
    nights = sorted(run["expected_start_time"] for run in runs)
    assert len(set(nights)) == len(nights)
    assert {night[11:16] for night in nights} <= {"01:00", "02:00"}  # three in the morning in Berlin, in UTC
