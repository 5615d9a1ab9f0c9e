"""What the tests of stages share: a process that has imported the pipeline, for runs that are to be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Marked
from tests.tasks.forker import Forker


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Begins runs at once, for all tests: to import the pipeline takes a process seconds."""
    marked = Marked()
    yield Forker.start(marked)
    marked.stop_all()
