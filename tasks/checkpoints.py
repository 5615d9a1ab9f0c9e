"""Checkpoints of a training stage in its private workspace, on the same storage as everything else."""

from __future__ import annotations

import hashlib
import logging
import re

from datasets.store import Lease, Workspace

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"checkpoint-(\d{6})-step-(\d{9})-([0-9a-f]{16})\.pt")


def newest_step(workspace: Workspace) -> int:
    """The step of the checkpoint that was written last, by its name; 0 without one. Its bytes are not read."""
    names = _checkpoints(workspace)
    match = _NAME.fullmatch(names[-1]) if names else None
    return int(match[2]) if match else 0


class WorkspaceCheckpoints:
    """Keeps the newest two; a name carries its bytes' hash, so that a damaged one is passed over.

    Newest is what was written last, whatever its step: after a NaN the loop goes back and saves a step again. Nothing
    is written after the lease is lost: another run has taken over.
    """

    def __init__(self, workspace: Workspace, lease: Lease, keep: int = 2) -> None:
        self._workspace = workspace
        self._lease = lease
        self._keep = keep
        self._damaged: set[str] = set()

    def save(self, step: int, data: bytes) -> None:
        """Write a checkpoint whole, then forget all but the newest.

        Raises:
            LeaseLost: another run computes this artifact now.
        """
        self._lease.check()
        earlier = self._names()
        number = int(earlier[-1].split("-")[1]) + 1 if earlier else 0
        self._workspace.put(f"checkpoint-{number:06d}-step-{step:09d}-{_short_hash(data)}.pt", data)
        whole = [name for name in earlier if name not in self._damaged]
        for name in set(earlier) - set(whole[len(whole) - (self._keep - 1) :]):
            self._workspace.delete(name)

    def load_latest(self) -> tuple[int, bytes] | None:
        """The newest checkpoint whose bytes are what was written, or None; damaged ones are named in the log."""
        for name in reversed(self._names()):
            data, match = self._workspace.get(name), _NAME.fullmatch(name)
            if data is not None and match and _short_hash(data) == match[3]:
                return int(match[2]), data
            _LOG.warning("%s is damaged: going back to the checkpoint before it", name)
            self._damaged.add(name)
        return None

    def _names(self) -> list[str]:
        return _checkpoints(self._workspace)


def _checkpoints(workspace: Workspace) -> list[str]:
    """In the order in which they were written."""
    return sorted(name for name in workspace.names() if _NAME.fullmatch(name))


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
