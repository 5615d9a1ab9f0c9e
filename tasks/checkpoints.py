"""Checkpoints of a training stage in its private workspace, on the same storage as everything else."""

from __future__ import annotations

import hashlib
import re

from datasets.store import Lease, Workspace

_NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.pt")


def newest_step(workspace: Workspace) -> int:
    """The step of the newest checkpoint by its name; 0 without one. Its bytes are not read."""
    return max((int(match[1]) for name in workspace.names() if (match := _NAME.fullmatch(name))), default=0)


class WorkspaceCheckpoints:
    """Keeps the newest two; a name carries its bytes' hash, so that a damaged one is passed over.

    Nothing is written after the lease is lost: another run has taken over.
    """

    def __init__(self, workspace: Workspace, lease: Lease, keep: int = 2) -> None:
        self._workspace = workspace
        self._lease = lease
        self._keep = keep

    def save(self, step: int, data: bytes) -> None:
        """Write a checkpoint whole, then forget all but the newest.

        Raises:
            LeaseLost: another run computes this artifact now.
        """
        self._lease.check()
        self._workspace.put(f"checkpoint-{step:09d}-{_short_hash(data)}.pt", data)
        for name in self._names()[: -self._keep]:
            self._workspace.delete(name)

    def load_latest(self) -> tuple[int, bytes] | None:
        """The newest checkpoint whose bytes are what was written, or None."""
        for name in reversed(self._names()):
            data = self._workspace.get(name)
            match = _NAME.fullmatch(name)
            if data is not None and match and _short_hash(data) == match[2]:
                return int(match[1]), data
        return None

    def _names(self) -> list[str]:
        return sorted(name for name in self._workspace.names() if _NAME.fullmatch(name))


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
