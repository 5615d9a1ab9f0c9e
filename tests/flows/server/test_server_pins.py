"""The server starts and its scheduler works with the versions that are installed.

With Prefect 3.8.8 and SQLAlchemy 2.1 a server starts, deploys and shows everything, and creates no scheduled run: the
only sign is a line in its log. With a FastAPI above 0.152 it does not start. Hence the pins, and this test of them.
"""

from __future__ import annotations

import pytest

from tests.flows.server.service import Service, until

pytestmark = pytest.mark.slow


def test_the_nightly_retraining_is_scheduled_once_it_is_switched_on(service: Service) -> None:
    deployment = service.deployment("retrain")
    (schedule,) = deployment["schedules"]
    assert schedule["active"] is False
    assert schedule["schedule"] == {"cron": "0 3 * * *", "timezone": "UTC", "day_or": True}
    path, wanted = "/flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}}
    assert service.found(path, wanted) == []
    service.patch(f"/deployments/{deployment['id']}/schedules/{schedule['id']}", {"active": True})
    runs = until(lambda: service.found(path, wanted), f"a scheduled run: see {service.home}/tessera-server.log")
    service.patch(f"/deployments/{deployment['id']}/schedules/{schedule['id']}", {"active": False})
    assert all(run["state"]["type"] == "SCHEDULED" and run["auto_scheduled"] for run in runs)
    assert all(run["parameters"] == {"preset": "digits"} for run in runs)
    nights = sorted(run["expected_start_time"] for run in runs)
    assert len(set(nights)) == len(nights)
    assert {night[11:16] for night in nights} == {"03:00"}
