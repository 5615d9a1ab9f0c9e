"""Where Prefect keeps the small records of finished stages: inside the artifact store, as JSON and nothing else.

Prefect unpickles a record whose envelope says so, whatever serializer the task was given; whoever can write to the
store could run code on a worker. This block refuses every envelope but JSON.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from prefect.filesystems import WritableFileSystem

from datasets.config import StoreConfig
from datasets.store import Storage


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
            ValueError: the record is not a JSON envelope with a JSON result.
        """
        data = self._storage.read(f"records/{path}")
        kind = _serializer_of(data)
        if kind != "json":
            raise ValueError(f"refused the record {path}: its result is {kind!r}, and only json is ever read")
        return data

    async def aread_path(self, path: str) -> bytes:
        """Read a record; the reference is small, so nothing is gained by doing it asynchronously."""
        return self.read_path(path)

    def write_path(self, path: str, content: bytes, _sync: bool | None = None) -> None:  # type: ignore[override]  # as read_path
        """Write a record whole."""
        self._storage.write(f"records/{path}", content)

    async def awrite_path(self, path: str, content: bytes) -> None:
        """Write a record whole."""
        self.write_path(path, content)


def _serializer_of(envelope: bytes) -> Any:
    try:
        return json.loads(envelope)["metadata"]["serializer"]["type"]
    except (ValueError, KeyError, TypeError):
        return "no JSON envelope"
