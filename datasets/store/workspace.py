"""Partial work on an artifact: checkpoints and finished pieces, private to whoever holds the lease."""

from __future__ import annotations

from datasets.store.errors import ObjectMissing
from datasets.store.names import check_name
from datasets.store.storage import Storage

__all__ = ["Workspace"]


class Workspace:
    """Named bytes below `work/<kind>/<fingerprint>/`; mutable, and gone some time after the publication."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    @property
    def folder(self) -> str:
        """Where it is in the store: names the artifact."""
        return self._folder

    def put(self, name: str, data: bytes) -> None:
        """Write bytes whole, over those of the same name."""
        self._storage.write(self._path(name), data)

    def get(self, name: str) -> bytes | None:
        """Return bytes, or None if there are none of that name."""
        path = self._path(name)
        size = self._storage.size(path)  # a reply that is short is only noticed by whoever knows the size
        if size is None:
            return None
        try:
            return self._storage.read(path, size=size)
        except ObjectMissing:
            return None

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return [path.removeprefix(f"{self._folder}/") for path in self._storage.find(self._folder)]

    def delete(self, name: str) -> None:
        """Remove bytes; a name that is not there is no error."""
        self._storage.delete(self._path(name))

    def clear(self) -> None:
        """Remove everything."""
        for name in self.names():
            self.delete(name)

    def _path(self, name: str) -> str:
        for segment in name.split("/"):
            check_name(segment)
        return f"{self._folder}/{name}"
