"""What the report's tests share."""

from __future__ import annotations

import pytest

from tasks.report import ReportInputs
from tests.tasks.report.example import example_inputs


@pytest.fixture(scope="session")
def inputs() -> ReportInputs:
    """A report with every section."""
    return example_inputs()
