"""What a kind of storage has to offer: whole objects, exclusive creation, fresh listings. Paths are relative."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Backend", "Entry", "is_temporary", "temporary_name"]

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{32}$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing."""

    path: str
    """Relative to the root."""
    bytes: int
    """Size."""
    modified: float
    """Unix time of the last write, by the clock of whoever keeps the object."""


class Backend(Protocol):
    """One kind of storage. Methods raise StoreError and nothing else for what a user or the world can cause."""

    def read(self, path: str) -> bytes:
        """Return a whole object. Raises ObjectMissing."""

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return bytes start to end (exclusive), fewer if the object is shorter. Raises ObjectMissing."""

    def write(self, path: str, data: bytes) -> None:
        """Put a whole object, atomically: readers see the old bytes or the new ones."""

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole object only if there is none; False if there is. `data` must be unique to the caller."""

    def create_is_exclusive(self) -> bool:
        """Find out whether create() is safe against concurrent creators here."""

    def size(self, path: str) -> int | None:
        """Return an object's bytes, or None if there is no such object."""

    def entries(self, prefix: str) -> list[Entry]:
        """List all objects below a folder, fresh, temporary ones included."""

    def folders(self, prefix: str) -> list[str]:
        """List the names of the folders right below a folder."""

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""


def temporary_name(name: str) -> str:
    """The name under which an object lies beside its place until it is whole."""
    return f"{name}.tmp-{uuid.uuid4().hex}"


def is_temporary(path: str) -> bool:
    """Whether a path was made by temporary_name()."""
    return _TEMPORARY.search(path) is not None
