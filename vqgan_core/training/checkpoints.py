"""Where checkpoints go: a protocol, memory, and a directory that survives a kill at any moment.

A checkpoint is one byte string for one step. A file holds a magic line, the sha256 of the data, and the data; it is
written beside its place, flushed, and moved there, so that it is whole or absent on a file system that keeps its word.
Where one does not (a truncated file after a power cut), reading falls back to the checkpoint before.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Protocol

_LOG = logging.getLogger(__name__)
_MAGIC = b"tessera checkpoint 1\n"
_HEADER_BYTES = len(_MAGIC) + 32


class Checkpoints(Protocol):
    """What the loop needs from a place for checkpoints."""

    def save(self, step: int, data: bytes) -> None:
        """Keep the state after `step` steps; a second save of a step replaces the first."""

    def load_latest(self) -> tuple[int, bytes] | None:
        """The newest checkpoint that is whole, or None."""


class MemoryCheckpoints:
    """Checkpoints of a process' lifetime, for notebooks and tests.

    Args:
        keep: how many to hold.
    """

    def __init__(self, keep: int = 2) -> None:
        self._keep = keep
        self.data: dict[int, bytes] = {}

    def save(self, step: int, data: bytes) -> None:
        """Keep a checkpoint and forget the oldest."""
        self.data[step] = data
        for old in sorted(self.data)[: -self._keep]:
            del self.data[old]

    def load_latest(self) -> tuple[int, bytes] | None:
        """The newest checkpoint, or None."""
        return max(self.data.items(), default=None)


class DirectoryCheckpoints:
    """Checkpoints as files `step-000000100.ckpt` of one directory, which is made on the first save.

    Args:
        directory: where; nothing else should be in it.
        keep: how many to hold.
    """

    def __init__(self, directory: str | Path, keep: int = 2) -> None:
        self._directory = Path(directory)
        self._keep = keep

    def save(self, step: int, data: bytes) -> None:
        """Write a checkpoint atomically, then delete the oldest."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"step-{step:09d}.ckpt"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(data).digest())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        self._sync_directory()
        for old in self._paths()[: -self._keep]:
            old.unlink()

    def load_latest(self) -> tuple[int, bytes] | None:
        """The newest checkpoint that is whole, or None; one that is damaged is named in the log."""
        for path in reversed(self._paths()):
            data = _read(path)
            if data is not None:
                return int(path.stem.removeprefix("step-")), data
            _LOG.warning("checkpoint %s is damaged: going back to the one before it", path)
        return None

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("step-*.ckpt"))

    def _sync_directory(self) -> None:
        if os.name == "posix":  # elsewhere a directory cannot be opened, and need not be
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _read(path: Path) -> bytes | None:
    content = path.read_bytes()
    digest, data = content[len(_MAGIC) : _HEADER_BYTES], content[_HEADER_BYTES:]
    whole = content.startswith(_MAGIC) and digest == hashlib.sha256(data).digest()
    return data if whole else None
