"""The journey on PostgreSQL: one environment variable, and history, schedules and pages are in that database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.server.conftest import served
from tests.flows.server.service import Service, states
from tests.postgres import PASSWORD, Postgres, postgres
from tests.tiny import STAGES, Published, write_preset

__all__ = ["postgres"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("prefect-postgres")
    with served(home, ("gpu",), PREFECT_SERVER_DATABASE_CONNECTION_URL=postgres.prefect_url) as found:
        yield found


def test_the_journey(on_postgres: Service, postgres: Postgres, published: Published, tmp_path: Path) -> None:
    """Over a store that holds everything already: what is new to the database is every run, page and log."""
    root = published.copy(tmp_path / "store").root
    preset = write_preset(tmp_path / "tiny.yaml", root, published.source)
    runs = [_finished(on_postgres, preset) for _ in range(2)]
    assert states(on_postgres.tasks(runs[0])) == ["Completed"] * len(STAGES)
    assert states(on_postgres.tasks(runs[1])) == ["Cached"] * len(STAGES)
    pages = [row for row in on_postgres.artifacts(runs[1]) if row["type"] == "markdown"]
    assert len(pages) == len(STAGES)
    assert postgres.fetch("SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED'") == [(2,)]
    assert postgres.fetch("SELECT count(*) FROM log")[0][0] > len(STAGES)
    assert not list(on_postgres.home.rglob("*.db")), "no SQLite beside it"
    for path in (path for folder in (on_postgres.home, tmp_path) for path in folder.rglob("*") if path.is_file()):
        assert PASSWORD.encode() not in path.read_bytes(), f"the database's password is in {path}"


def _finished(service: Service, preset: Path) -> str:
    run = service.start("end-to-end", preset=str(preset))
    assert service.finished(run)["state"]["name"] == "Completed", service.logs(run)
    return run
