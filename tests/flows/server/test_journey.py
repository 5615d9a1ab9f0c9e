"""The journey of issue 6: the pipeline through the API as the UI does it, and again, served from the cache."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.flows.server.conftest import PLANTED, Journey
from tests.flows.server.service import Service, states
from tests.tiny import KINDS, STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_second_run_is_served_from_the_cache(
    service: Service, journey: Journey, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (service.tasks(run) for run in journey.runs)
    assert states(first) == ["Completed"] * len(STAGES)
    assert states(second) == ["Cached"] * len(STAGES)
    assert list(first) == list(second)
    built = [service.logs(run).count(": building ") for run in journey.runs]
    assert built == [len(STAGES), 0], "not a step the second time"
    with capsys.disabled():
        text = "end to end through the API: {:.1f} s; again, all cached: {:.1f} s"
        sys.stdout.write(f"\n{text.format(*journey.seconds)}\n")


def test_names_say_what_is_done(service: Service, journey: Journey) -> None:
    assert service.run(journey.runs[0])["name"] == "end to end · tiny"
    titles = [name.split(" · ") for name in service.tasks(journey.runs[0])]
    assert [parts[:2] for parts in titles] == [[stage.replace("_", " "), "tiny"] for stage in STAGES]
    assert titles[1][2:4] == ["f4", "K16"]


def test_every_artifact_has_a_page_that_lists_its_runs(service: Service, journey: Journey) -> None:
    for run, how in zip(journey.runs, ("made by this run", "served from the store"), strict=True):
        pages = _pages(service, run)
        assert set(pages) == set(KINDS)
        for kind, page in pages.items():
            assert page["description"].startswith(f"{how} · "), kind
            assert "](data:image/" in page["data"], f"the page of {kind} has pictures"
            assert "```mermaid\ngraph LR" in page["data"]
    keys = [{page["key"] for page in _pages(service, run).values()} for run in journey.runs]
    assert keys[0] == keys[1], "one page for both runs"


def _pages(service: Service, run: str) -> Mapping[str, dict[str, Any]]:
    return {row["key"].split("-")[0]: row for row in service.artifacts(run) if row["type"] == "markdown"}


def test_no_secret_is_left_anywhere(service: Service, journey: Journey) -> None:
    """Every worker was given one; database, logs, manifests, records, pages and reports are searched for it."""
    searched = 0
    for folder in (service.home, journey.folder):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            searched += len(content)
            for name, secret in PLANTED.items():
                assert secret.encode() not in content, f"{name} is in {path}"
    assert searched > 1_000_000
    assert service.logs(journey.runs[0]).count("\n") > len(STAGES), "there were logs to search"
