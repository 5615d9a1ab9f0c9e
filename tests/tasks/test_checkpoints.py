"""Checkpoints in a stage's workspace: which one is the newest good one, how many stay, and who may write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.store import Lease, LeaseLost, Store, Workspace
from tasks.checkpoints import WorkspaceCheckpoints, newest_step

KEY = ("tokenizer", "ab" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    with store.claim(*KEY) as lease:
        yield lease


@pytest.fixture
def workspace(store: Store) -> Workspace:
    return store.workspace(*KEY)


@pytest.fixture
def checkpoints(workspace: Workspace, lease: Lease) -> WorkspaceCheckpoints:
    return WorkspaceCheckpoints(workspace, lease)


def test_there_is_none_at_first(checkpoints: WorkspaceCheckpoints, workspace: Workspace) -> None:
    assert checkpoints.load_latest() is None
    assert newest_step(workspace) == 0


def test_the_newest_comes_back_and_two_stay(checkpoints: WorkspaceCheckpoints, workspace: Workspace) -> None:
    workspace.put("metrics.json", b"{}")  # other pieces of work are none of its business
    for step in (0, 5, 10, 100, 1_000_000):
        checkpoints.save(step, b"state of step %d" % step)
        assert checkpoints.load_latest() == (step, b"state of step %d" % step)
        assert newest_step(workspace) == step
    assert len(workspace.names()) == 2 + 1
    assert workspace.get("metrics.json") == b"{}"


@pytest.mark.parametrize("damage", [b"", b"state of step 1O", b"state of"])
def test_a_damaged_one_is_passed_over(
    checkpoints: WorkspaceCheckpoints, workspace: Workspace, lease: Lease, damage: bytes
) -> None:
    for step in (5, 10):
        checkpoints.save(step, b"state of step %d" % step)
    newest = next(name for name in workspace.names() if workspace.get(name) == b"state of step 10")
    workspace.put(newest, damage)
    assert WorkspaceCheckpoints(workspace, lease).load_latest() == (5, b"state of step 5")
    checkpoints.save(8, b"state of step 8")  # another cadence after the restart
    assert checkpoints.load_latest() == (8, b"state of step 8")
    checkpoints.save(10, b"state of step 10")
    assert checkpoints.load_latest() == (10, b"state of step 10")
    workspace.delete(newest)
    assert checkpoints.load_latest() == (10, b"state of step 10")


def test_all_damaged_is_none(checkpoints: WorkspaceCheckpoints, workspace: Workspace) -> None:
    for step in (5, 10):
        checkpoints.save(step, b"state")
    for name in workspace.names():
        workspace.put(name, b"?")
    assert checkpoints.load_latest() is None


def test_of_one_step_the_one_that_was_written_last_counts(checkpoints: WorkspaceCheckpoints, lease: Lease) -> None:
    """After a NaN the loop goes back to a step and saves it again, with the note that a batch is to be left out."""
    checkpoints.save(0, b"first")
    for number in range(8):  # whatever their hashes are
        data = b"step 5, take %d" % number
        checkpoints.save(5, data)
        assert checkpoints.load_latest() == (5, data)


def test_going_back_behind_a_damaged_one_and_saving_earlier_steps(
    checkpoints: WorkspaceCheckpoints, workspace: Workspace
) -> None:
    checkpoints.save(100, b"good")
    checkpoints.save(200, b"bad")
    bad = next(name for name in workspace.names() if workspace.get(name) == b"bad")
    workspace.put(bad, b"damaged")
    for step in (110, 120, 130):
        checkpoints.save(step, b"%d" % step)
        assert checkpoints.load_latest() == (step, b"%d" % step)
    assert {workspace.get(name) for name in workspace.names()} >= {b"120", b"130"}


def test_nothing_is_written_after_the_lease_is_lost(
    checkpoints: WorkspaceCheckpoints, workspace: Workspace, store: Store
) -> None:
    checkpoints.save(5, b"ours")
    claim = next(iter(store.storage.find("claims")))
    store.storage.create(claim.replace("000001", "000002"), b"{}")
    before = workspace.names()
    with pytest.raises(LeaseLost, match="another run has taken over"):
        checkpoints.save(10, b"too late")
    assert workspace.names() == before


def test_a_plan_sees_the_step_that_a_run_would_go_on_from(
    checkpoints: WorkspaceCheckpoints, workspace: Workspace
) -> None:
    """Also after a roll-back, where the last checkpoint has a smaller step than the one before it."""
    assert newest_step(workspace) == 0
    for step in (0, 10, 20, 10):
        checkpoints.save(step, f"weights {step}".encode())
        assert newest_step(workspace) == step
        latest = checkpoints.load_latest()
        assert latest is not None
        assert latest[0] == step
