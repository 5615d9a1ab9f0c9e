"""Parts: files that several artifacts share, named by what they were made from and never changed.

A part is there when its part.json is, which is written last. Two runs may make the same part at once; whoever
finishes first wins, and the other one takes over what it finds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from datasets.store.artifact import read_checked
from datasets.store.errors import CorruptObject, ObjectMissing
from datasets.store.fingerprint import sha256
from datasets.store.manifest import FileEntry, Kind, Name, describe, with_checksum, without_checksum
from datasets.store.names import PART, check_name, part_folder
from datasets.store.storage import Storage
from vqgan_core.config import Config

__all__ = ["Part", "put_new", "read_part", "read_part_file", "write_part"]

_LOG = logging.getLogger(__name__)
_OTHER_WRITER_SECONDS = 45.0
_LARGE_BYTES = 64 << 20
_READ_ATTEMPTS = 3


class Part(Config):
    """A part that is there."""

    kind: Kind
    """What sort of thing it is, for example shard or tokens."""
    key: Name
    """What it was made from: a hash."""
    files: list[FileEntry]
    """Its files, with paths as they stand in the manifest of an artifact that uses it."""
    summary: dict[str, Any] = Field(default_factory=dict)
    """Counts."""


def read_part(storage: Storage, kind: str, key: str) -> Part | None:
    """Return a part whose files are all there with their size, else None."""
    folder = part_folder(kind, key)
    sizes = storage.find(folder)
    if f"{folder}/{PART}" not in sizes:
        return None
    part = _described(storage, f"{folder}/{PART}", sizes[f"{folder}/{PART}"])
    if part is None:
        return None
    absent = [entry.path for entry in part.files if sizes.get(f"{folder}/{_name(entry.path)}") != entry.bytes]
    if absent or (part.kind, part.key) != (kind, key):
        _LOG.warning(
            "%s has lost %s and is made again", storage.url(folder), ", ".join(map(_name, absent)) or "its name"
        )
        return None
    return part


def _described(storage: Storage, path: str, size: int) -> Part | None:
    """What part.json says, verified: a reply can be wrong, and a manifest would take its hashes over."""
    for _ in range(_READ_ATTEMPTS):
        try:
            return Part.model_validate_json(without_checksum(storage.read(path, size=size), path))
        except ObjectMissing:
            return None
        except (CorruptObject, ValidationError):
            continue
    _LOG.warning("%s cannot be read and is made again", storage.url(path))
    return None


def write_part(
    storage: Storage, kind: str, key: str, files: Mapping[str, bytes], summary: Mapping[str, Any] | None = None
) -> Part:
    """Publish a part, or return the one that is there already."""
    folder = part_folder(kind, key)
    # Looked for before the part is read: one that has its last object and still cannot be read has lost something, and
    # no writer of it has to be waited for.
    damaged = storage.size(f"{folder}/{PART}") is not None
    existing = read_part(storage, kind, key)
    if existing is not None:
        return existing
    entries = [describe(f"../../{folder}/{check_name(name)}", data) for name, data in sorted(files.items())]
    part = Part(kind=kind, key=key, files=entries, summary=dict(summary or {}))
    for name, data in sorted(files.items()):
        if not put_new(storage, f"{folder}/{name}", data, replace=damaged):
            other = _wait_for_other_writer(storage, kind, key)
            if other is not None:
                return other
            put_new(storage, f"{folder}/{name}", data, replace=True)
    storage.write(f"{folder}/{PART}", with_checksum(part.model_dump(mode="json")))
    return part


def read_part_file(storage: Storage, part: Part, name: str) -> bytes:
    """Return a file of a part, checked against its sha256.

    Raises:
        KeyError: the part has no such file.
        CorruptObject: what the store has is something else.
    """
    for entry in part.files:
        if _name(entry.path) == name:
            return read_checked(storage, f"{part_folder(part.kind, part.key)}/{name}", entry)
    raise KeyError(
        f"part {part.kind} {part.key} has no file {name!r}, only {[_name(entry.path) for entry in part.files]}"
    )


def put_new(storage: Storage, path: str, data: bytes, *, replace: bool) -> bool:
    """Put a file that nothing published refers to yet.

    The same bytes may lie there from a run that was killed: they stay. Other bytes are replaced only if told.

    Returns:
        Whether these bytes are at `path` now.
    """
    # Creating is one PUT. What is empty or large is written the ordinary way if nothing is there.
    if not 0 < len(data) <= _LARGE_BYTES and storage.size(path) is None:
        storage.write(path, data)
        return True
    if (0 < len(data) <= _LARGE_BYTES and storage.create(path, data)) or _holds(storage, path, data):
        return True
    if replace:
        storage.write(path, data)
    return replace


def _holds(storage: Storage, path: str, data: bytes) -> bool:
    if storage.size(path) != len(data):
        return False
    try:
        return sha256(storage.read(path, size=len(data))) == sha256(data)
    except (ObjectMissing, CorruptObject):
        return False


def _wait_for_other_writer(storage: Storage, kind: str, key: str) -> Part | None:
    """Other bytes are in the way: of a live writer, who is done in seconds, or of a dead one, who never will be."""
    deadline = time.monotonic() + _OTHER_WRITER_SECONDS
    while time.monotonic() < deadline:
        part = read_part(storage, kind, key)
        if part is not None:
            return part
        time.sleep(0.5)
    return None


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
