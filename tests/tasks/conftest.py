"""What the tests of the stages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Marked


@pytest.fixture
def marked() -> Iterator[Marked]:
    """Child processes that are gone when the test is."""
    marked = Marked()
    yield marked
    marked.stop_all()
