"""Where Prefect keeps the small records of finished stages: inside the artifact store, as references and nothing else.

Prefect believes a record's envelope: it unpickles where that says so, whatever serializer the task was given, and an
envelope of JSON may name any function to decode with, or any class to make of a value. Whoever can write to the store
could run code on a worker. So of a record only the artifact's reference is read, and the envelope is made anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property

import prefect
from prefect.filesystems import WritableFileSystem

from datasets.config import StoreConfig
from datasets.store import ArtifactRef, Storage

_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{64}\.json")


class StageRecords(WritableFileSystem):
    """A Prefect result storage below the root of a Tessera store; holds no secrets."""

    _block_type_name = "Tessera stage records"
    _block_type_slug = "tessera-stage-records"

    url: str
    endpoint_url: str | None = None

    @classmethod
    def open(cls, store: StoreConfig) -> StageRecords:
        """The block of a store, saved on the server (Prefect wants that) under a name made of the store's URL."""
        block = cls(url=store.url, endpoint_url=store.endpoint_url)
        name = "store-" + hashlib.sha256(f"{store.url} {store.endpoint_url}".encode()).hexdigest()[:12]
        block.save(name, overwrite=True)
        return block

    @cached_property
    def _storage(self) -> Storage:
        return Storage(self.url, self.endpoint_url)

    def read_path(self, path: str, _sync: bool | None = None) -> bytes:  # type: ignore[override]  # Prefect calls it with _sync=True and takes the bytes; its signature says coroutine
        """Read a record.

        Raises:
            ValueError: it is not the reference of the artifact that its name says.
        """
        return _envelope(path, _reference(path, self._storage.read(f"records/{path}")))

    async def aread_path(self, path: str) -> bytes:
        """Read a record; the reference is small, so nothing is gained by doing it asynchronously."""
        return self.read_path(path)

    def write_path(self, path: str, content: bytes, _sync: bool | None = None) -> None:  # type: ignore[override]  # as read_path
        """Write a record whole. Prefect would keep exceptions here, too; what they say is in the run's state."""
        if _NAME.fullmatch(path):
            self._storage.write(f"records/{path}", content)

    async def awrite_path(self, path: str, content: bytes) -> None:
        """Write a record whole."""
        self.write_path(path, content)


def record_name(kind: str, fingerprint: str) -> str:
    """The name of an artifact's record; also its cache key."""
    return f"{kind}-{fingerprint}.json"


def _reference(path: str, record: bytes) -> ArtifactRef:
    try:
        found = ArtifactRef.model_validate_json(json.loads(record)["result"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"refused the record {path}: it is no reference of an artifact") from None
    if record_name(found.kind, found.fingerprint) != path:
        raise ValueError(f"refused the record {path}: it is that of {found.kind} {found.fingerprint[:12]}")
    return found


def _envelope(path: str, reference: ArtifactRef) -> bytes:
    """What Prefect takes a record from: plain JSON, decoded by its own decoder."""
    metadata = {"storage_key": path, "serializer": {"type": "json"}, "prefect_version": prefect.__version__}
    return json.dumps({"metadata": metadata, "result": reference.model_dump_json()}).encode()
