"""What the tests of flows share: Prefect's test harness for flows in this process. A real server is in server/."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.local_server import QUIET
from tests.flows.command_line import CommandLine

ROOT = Path(__file__).resolve().parents[2]

# Prefect reads its settings when it is imported, which the test modules do. Nothing goes to the user's own home.
_HOME = tempfile.TemporaryDirectory(prefix="tessera-tests-prefect-", ignore_cleanup_errors=True)
os.environ |= {**QUIET, "PREFECT_HOME": _HOME.name}
os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture(scope="session")
def harness() -> Iterator[str]:
    """Prefect's test harness: flows of this process run against its server; gives the URL of its API."""
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - after the environment is set
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, in this process; where the store is, only its arguments say."""
    monkeypatch.delenv("TESSERA_STORE", raising=False)
    return CommandLine(capsys)
