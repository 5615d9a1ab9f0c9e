"""The journey of issue 6: the pipeline through the API as the UI does it, and again, served from the cache."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.flows.server.service import Service, states
from tests.tiny import STAGES, write_preset

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def preset(digit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journey")
    return write_preset(folder / "tiny.yaml", folder / "store", digit_folder)


def test_a_run_and_the_same_again(service: Service, preset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for expected in ("Completed", "Cached"):
        started = time.monotonic()
        run = service.start("end-to-end", preset=str(preset), store=str(preset.parent / "store"))
        row = service.finished(run)
        seconds.append(time.monotonic() - started)
        assert row["state"]["name"] == "Completed", service.logs(run)
        assert states(service.tasks(run)) == [expected] * len(STAGES)
    with capsys.disabled():
        sys.stdout.write(f"\nend to end through the API: {seconds[0]:.1f} s; again, all cached: {seconds[1]:.1f} s\n")
