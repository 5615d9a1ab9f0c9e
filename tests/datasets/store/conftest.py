"""Stores of every kind, and child processes that use them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets.store import Storage, Store
from tests.s3_server import faults, moto_endpoint, s3_url

__all__ = ["faults", "moto_endpoint", "s3_url"]

ROOT = Path(__file__).resolve().parents[3]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Root of an empty store, of each kind in turn."""
    if request.param == "file":
        return str(tmp_path / "store")
    if request.param == "memory":
        return f"memory://test-{uuid.uuid4().hex}"
    return str(request.getfixturevalue("s3_url"))


@pytest.fixture(params=["file", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Root of an empty store that several processes can use."""
    return str(tmp_path / "store") if request.param == "file" else str(request.getfixturevalue("s3_url"))


@pytest.fixture
def storage(url: str) -> Storage:
    return Storage(url)


@pytest.fixture
def store(url: str) -> Store:
    return Store(Storage(url))


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a Python program as a child; whatever is left of it is killed in the end."""
    children = []

    def start(program: str, *arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()
