"""Storage: whole objects below one URL, the same on a folder, in memory and on S3.

It carries a URL and opens its file system on first use, once per process, so that it can be handed to forked or
spawned workers. It counts the bytes that pass, and reads again what came back short.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from datasets.store.errors import CorruptObject, StoreUnavailable
from datasets.store.storage.backend import Backend, Entry, is_temporary
from datasets.store.storage.local import LocalBackend
from datasets.store.storage.memory import MemoryBackend

__all__ = ["Storage"]

_LOG = logging.getLogger(__name__)
_READ_ATTEMPTS = 4
_warned: set[str] = set()


class Storage:
    """Objects below a URL; paths are relative, with forward slashes.

    Args:
        url: a path, file://, memory:// or s3://bucket/prefix; other fsspec URLs work as far as their file system does.
        endpoint_url: of an S3-compatible server; None: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS.

    Raises:
        StoreUnavailable: the URL holds credentials, chains file systems, or names none.
    """

    def __init__(self, url: str, endpoint_url: str | None = None) -> None:
        self.root = _checked(url)
        self._endpoint_url = endpoint_url if endpoint_url is None else _without_secret(endpoint_url, "endpoint_url")
        self._opened: tuple[int, Backend] | None = None
        self._lock = threading.Lock()
        self.bytes_read = 0
        self.bytes_written = 0

    def read(self, path: str, *, size: int | None = None) -> bytes:
        """Return a whole object.

        Args:
            path: where it is.
            size: the bytes that it must have, if known; what comes back short is read again a few times.

        Raises:
            ObjectMissing: there is no such object.
            CorruptObject: it has another size.
        """
        if size is None:
            return self._count_read(self._backend.read(_relative(path)))
        return self.read_range(path, 0, size) if size else self._empty(path)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` (exclusive) of an object, all of them.

        Raises:
            ObjectMissing: there is no such object.
            CorruptObject: it ends before `end`.
        """
        length = end - start
        for attempt in range(_READ_ATTEMPTS):
            data = self._count_read(self._backend.read_range(_relative(path), start, end))
            if len(data) == length:
                return data
            # A server may cut a reply and call it whole. If the object itself is shorter, asking again is in vain.
            if (self._backend.size(_relative(path)) or 0) < end:
                break
            time.sleep(0.05 * 4**attempt)
        raise CorruptObject(
            f"{self.url(path)}: of bytes {start} to {end} only {len(data)} came back; "
            "the object, or what the server makes of it, is shorter than what was published"
        )

    def write(self, path: str, data: bytes) -> None:
        """Put a whole object, atomically, over whatever is there.

        Raises:
            StoreNotWritable: no permission, no space.
        """
        self._backend.write(_relative(path), data)
        self._count_written(data)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole object only if there is none at `path`.

        Args:
            path: where to.
            data: not empty, and unique to the caller (a nonce in it): a lost reply is recognised by reading back.

        Returns:
            True if the object is ours, False if another one is there.
        """
        created = self._backend.create(_relative(path), data)
        if created:
            self._count_written(data)
        return created

    def warn_if_unprotected(self) -> None:
        """Say so, once a process, if concurrent runs are not kept apart here."""
        key = f"{self._endpoint_url} {self.root}"
        if key in _warned:
            return
        _warned.add(key)
        if not self._backend.create_is_exclusive():
            _LOG.warning(
                "%s does not honour exclusive creation (If-None-Match): two runs at once may compute the same artifact "
                "and disturb each other's partial work; run one at a time, or use another store",
                self.root,
            )

    def size(self, path: str) -> int | None:
        """Return an object's bytes, or None if there is no such object."""
        return self._backend.size(_relative(path))

    def find(self, prefix: str) -> dict[str, int]:
        """Return path and bytes of all objects below a folder, sorted, fresh."""
        return {entry.path: entry.bytes for entry in self.entries(prefix) if not is_temporary(entry.path)}

    def entries(self, prefix: str) -> list[Entry]:
        """Return all objects below a folder with their age, sorted, leftovers of killed writers included."""
        return sorted(self._backend.entries(_relative(prefix)), key=lambda entry: entry.path)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right below a folder."""
        return self._backend.folders(_relative(prefix))

    def delete(self, path: str) -> None:
        """Remove one object; one that is not there is no error."""
        self._backend.delete(_relative(path))

    def url(self, path: str = "") -> str:
        """Return the URL of an object or of the root."""
        return f"{self.root}/{path}" if path else self.root

    @property
    def _backend(self) -> Backend:
        """The file system, opened by this very process: neither s3fs nor its threads survive a fork."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            self._lock = threading.Lock()  # another thread of the parent may have held the old one when it forked
            opened = self._opened = (os.getpid(), _open(self.root, self._endpoint_url))
        return opened[1]

    def __getstate__(self) -> dict[str, str | None]:
        return {"url": self.root, "endpoint_url": self._endpoint_url}

    def __setstate__(self, state: dict[str, str | None]) -> None:
        assert state["url"] is not None
        Storage.__init__(self, state["url"], state["endpoint_url"])

    def __repr__(self) -> str:
        return f"Storage({self.root!r})"

    def _empty(self, path: str) -> bytes:
        if self._backend.read(_relative(path)):
            raise CorruptObject(f"{self.url(path)} should be empty and is not")
        return b""

    def _count_read(self, data: bytes) -> bytes:
        with self._lock:
            self.bytes_read += len(data)
        return data

    def _count_written(self, data: bytes) -> None:
        with self._lock:
            self.bytes_written += len(data)


def _open(url: str, endpoint_url: str | None) -> Backend:
    if url.startswith("memory://"):
        return MemoryBackend(url.removeprefix("memory://"))
    if "://" not in url:
        return LocalBackend(url)
    # botocore and aiohttp cost a quarter of a second, which a local store need not pay.
    from datasets.store.storage.objects import ObjectBackend  # noqa: PLC0415

    return ObjectBackend(url, endpoint_url)


def _checked(url: str) -> str:
    if "::" in url:
        raise StoreUnavailable(f"the url {url!r} chains file systems (::), which a store cannot; give a plain one")
    if url.startswith(("file://", "local://")):
        url = url.partition("://")[2]
    if "://" not in url:
        if not url.strip():
            raise StoreUnavailable("the store's url is empty; give a path, file://, memory:// or s3://bucket/prefix")
        return str(Path(url).expanduser().absolute())
    if url.startswith("s3a://"):
        url = "s3://" + url.removeprefix("s3a://")
    _without_secret(url, "store's url")
    if url.startswith("s3://") and not urlsplit(url).netloc:
        raise StoreUnavailable(f"the url {url!r} names no bucket; give s3://bucket/prefix")
    return url.rstrip("/") if not url.endswith("://") else url


def _without_secret(url: str, what: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise StoreUnavailable(
            f"the {what} holds credentials (user@host), which would end up in logs and manifests; "
            "give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return url


def _relative(path: str) -> str:
    assert not path.startswith("/"), f"a path inside the storage was expected, got {path!r}"
    assert ".." not in path.split("/"), f"a path inside the storage was expected, got {path!r}"
    return path.rstrip("/")
