"""memory://: fsspec's store of this process, for tests and notebooks. One lock makes every operation atomic."""

from __future__ import annotations

import os
import threading
from typing import Any

import fsspec

from datasets.store.errors import ObjectMissing
from datasets.store.storage.backend import Entry

__all__ = ["MemoryBackend"]

_LOCK = threading.RLock()


def _renew_lock() -> None:
    """Another thread of the parent may have held the lock when it forked."""
    global _LOCK  # noqa: PLW0603 (one store a process, one lock)
    _LOCK = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class MemoryBackend:
    """Objects are entries of fsspec's process-wide dictionary; another process has another one."""

    def __init__(self, root: str) -> None:
        self._root = root.strip("/")
        self._fs: Any = fsspec.filesystem("memory")

    def read(self, path: str) -> bytes:
        """Return a whole object."""
        return self._cat(path, None, None)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return a piece of an object."""
        return self._cat(path, start, end)

    def write(self, path: str, data: bytes) -> None:
        """Put an object."""
        with _LOCK:
            self._fs.pipe_file(self._absolute(path), bytes(data))

    def create(self, path: str, data: bytes) -> bool:
        """Put an object if there is none."""
        with _LOCK:
            if self.size(path) is not None:
                return False
            self.write(path, data)
            return True

    def create_is_exclusive(self) -> bool:
        """The lock sees to it."""
        return True

    def size(self, path: str) -> int | None:
        """Return an object's bytes."""
        with _LOCK:
            absolute = self._absolute(path)
            return int(self._fs.size(absolute)) if self._fs.isfile(absolute) else None

    def entries(self, prefix: str) -> list[Entry]:
        """List all objects below a folder."""
        with _LOCK:
            found = self._fs.find(self._absolute(prefix), detail=True)
            skip = len(self._absolute("").rstrip("/")) + 1
            return [
                Entry(name[skip:], info["size"], self._fs.modified(name).timestamp()) for name, info in found.items()
            ]

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below a folder."""
        with _LOCK:
            try:
                infos = self._fs.ls(self._absolute(prefix), detail=True)
            except FileNotFoundError:
                return []
            return sorted(info["name"].rsplit("/", 1)[-1] for info in infos if info["type"] == "directory")

    def delete(self, path: str) -> None:
        """Remove an object."""
        with _LOCK:
            if self.size(path) is not None:
                self._fs.rm_file(self._absolute(path))

    def _absolute(self, path: str) -> str:
        return "/" + "/".join(part for part in (self._root, path.strip("/")) if part)

    def _cat(self, path: str, start: int | None, end: int | None) -> bytes:
        with _LOCK:
            if self.size(path) is None:
                raise ObjectMissing(f"there is no memory:/{self._absolute(path)}")
            return bytes(self._fs.cat_file(self._absolute(path), start=start, end=end))
