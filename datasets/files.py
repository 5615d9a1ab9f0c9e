"""What readers need of an artifact: verified bytes by path. The store's Artifact is one; so is a dict in a notebook."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from datasets.errors import CorpusError

__all__ = ["Files", "ListedFiles", "MemoryFiles", "read_member"]

_ATTEMPTS = 3


class Files(Protocol):
    """Files of an artifact. `read` gives verified bytes; a range cannot be verified as such, its reader must."""

    def read(self, path: str) -> bytes:
        """The whole file, its sha256 checked."""
        ...

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file."""
        ...


def read_member(files: Files, shard: str, member: Mapping[str, Any]) -> bytes:
    """An image or plane in a shard, by `offset`, `bytes` and `sha256` of its line in an index, verified.

    Raises:
        CorpusError: the bytes are not what was stored.
    """
    start, end = member["offset"], member["offset"] + member["bytes"]
    for _ in range(_ATTEMPTS):  # object storage may answer wrongly once
        data = files.read_range(shard, start, end)
        if hashlib.sha256(data).hexdigest() == member["sha256"]:
            return data
    raise CorpusError(
        f"a record is damaged: bytes {start} to {end} of {shard} do not have the sha256 of the index; `tessera verify` "
        "names all damaged files"
    )


class _FileEntry(Protocol):
    @property
    def path(self) -> str: ...


class _Manifest(Protocol):
    @property
    def files(self) -> Sequence[_FileEntry]: ...


class ListedFiles(Files, Protocol):
    """Files with the manifest that lists them."""

    @property
    def manifest(self) -> _Manifest:
        """The manifest; only its list of files is used here."""
        ...


class MemoryFiles:
    """Files in a mapping: for tests, notebooks and results that are not published yet."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)

    def read(self, path: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(f"no file {path} among {len(self._files)}") from None

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self.read(path)[start:end]
