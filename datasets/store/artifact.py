"""Reading a published artifact: whatever is read is checked against the manifest."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from datasets.store.errors import CorruptObject
from datasets.store.fingerprint import sha256
from datasets.store.manifest import ArtifactRef, FileEntry, Manifest
from datasets.store.names import resolve
from datasets.store.storage import Storage

__all__ = ["Artifact", "read_checked"]

_ATTEMPTS = 3


@dataclass(frozen=True)
class Artifact:
    """An artifact whose manifest and files are there. It may be handed to other processes."""

    manifest: Manifest
    storage: Storage

    @property
    def ref(self) -> ArtifactRef:
        """What others store to find it again."""
        return ArtifactRef(
            kind=self.manifest.kind,
            fingerprint=self.manifest.fingerprint,
            digest=self.manifest.digest,
            uri=self.storage.url(self.manifest.folder),
        )

    def entry(self, path: str) -> FileEntry:
        """Return the manifest's line about a file.

        Raises:
            KeyError: the artifact has no such file.
        """
        if path not in self._entries:
            raise KeyError(f"{self.manifest.kind} {self.manifest.fingerprint[:12]} has no file {path!r}")
        return self._entries[path]

    def read(self, path: str) -> bytes:
        """Return a whole file, checked against its sha256.

        Raises:
            KeyError: the artifact has no such file.
            CorruptObject: what the store has, or returns every time, is something else.
        """
        return read_checked(self.storage, resolve(self.manifest.folder, path), self.entry(path))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` (exclusive) of a file; a piece cannot be checked, only its length is."""
        entry = self.entry(path)
        assert 0 <= start <= end <= entry.bytes, f"{path} has {entry.bytes} bytes, {start} to {end} were asked for"
        return self.storage.read_range(resolve(self.manifest.folder, path), start, end)

    @functools.cached_property
    def _entries(self) -> dict[str, FileEntry]:
        return {entry.path: entry for entry in self.manifest.entries()}

    def url(self, path: str) -> str:
        """Return the URL of a file."""
        return self.storage.url(resolve(self.manifest.folder, self.entry(path).path))


def read_checked(storage: Storage, path: str, entry: FileEntry) -> bytes:
    """Read an object and compare it with its entry; a wrong reply is asked for again.

    Raises:
        CorruptObject: it has another sha256 or size.
    """
    for _ in range(_ATTEMPTS):
        data = storage.read(path, size=entry.bytes)
        if sha256(data) == entry.sha256:
            return data
    raise CorruptObject(
        f"{storage.url(path)} is damaged: its sha256 is {sha256(data)[:12]}…, published was {entry.sha256[:12]}…; "
        "delete it, and the stage that made it will run again"
    )
