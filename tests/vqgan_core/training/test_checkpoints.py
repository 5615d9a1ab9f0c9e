"""Checkpoints: atomic, two kept, and a damaged newest one does not end a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vqgan_core.training import Checkpoints, DirectoryCheckpoints, MemoryCheckpoints


@pytest.fixture(params=["memory", "directory"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    return MemoryCheckpoints() if request.param == "memory" else DirectoryCheckpoints(tmp_path / "new" / "place")


def test_the_latest_is_the_one_of_the_highest_step(checkpoints: Checkpoints) -> None:
    assert checkpoints.load_latest() is None
    for step in (0, 5, 10, 100_000_000):
        checkpoints.save(step, f"state {step}".encode())
        assert checkpoints.load_latest() == (step, f"state {step}".encode())


def test_a_second_save_of_a_step_replaces_the_first(checkpoints: Checkpoints) -> None:
    checkpoints.save(3, b"one")
    checkpoints.save(3, b"two")
    assert checkpoints.load_latest() == (3, b"two")


def test_a_directory_keeps_two_and_no_partial_files(tmp_path: Path) -> None:
    checkpoints = DirectoryCheckpoints(tmp_path)
    for step in (10, 20, 30):
        checkpoints.save(step, bytes(step))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000020.ckpt", "step-000000030.ckpt"]


@pytest.mark.parametrize("kept_bytes", [0, 5, 21, 40, 60])
def test_a_truncated_newest_falls_back_to_the_one_before(
    tmp_path: Path, kept_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = DirectoryCheckpoints(tmp_path)
    checkpoints.save(10, b"a" * 100)
    checkpoints.save(20, b"b" * 100)
    newest = tmp_path / "step-000000020.ckpt"
    newest.write_bytes(newest.read_bytes()[:kept_bytes])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load_latest() == (10, b"a" * 100)
    assert "step-000000020.ckpt is damaged" in caplog.text


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    checkpoints = DirectoryCheckpoints(tmp_path)
    checkpoints.save(1, b"a" * 100)
    path = tmp_path / "step-000000001.ckpt"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert checkpoints.load_latest() is None


def test_a_write_that_dies_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    checkpoints = DirectoryCheckpoints(tmp_path)
    checkpoints.save(1, b"old")
    (tmp_path / "step-000000002.partial").write_bytes(b"half")
    assert checkpoints.load_latest() == (1, b"old")
