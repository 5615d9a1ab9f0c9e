"""Reading a source's files over fsspec: one place for the options and the traps of foreign file systems.

The traps (each tried): a file system that caches listings answers from the first one for ever; `cat_file` without a
range costs S3 a HEAD more; a chained URL (`a::b`) can run another file system's code; an instance that was used before
a fork fails after it, so sources are opened where they are used.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING, Any, cast

import fsspec
from botocore.exceptions import BotoCoreError

from datasets.errors import SourceChanged, SourceError
from datasets.sources.listing import Partner, SourceEntry, content_checksum
from datasets.store.storage.objects import s3_options

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Remote"]

_CREDENTIALS = re.compile(r"://[^/@]*:[^/@]*@")
_HASHED = {"file", "local", "memory"}
_ATTEMPTS = 3


class Remote:
    """A URL on any fsspec file system, opened for reading."""

    def __init__(self, url: str, endpoint_url: str | None = None) -> None:
        """Open the file system of `url`.

        Raises:
            SourceError: the URL is of a kind that is refused, or its file system cannot be opened.
        """
        _refuse(url)
        self.url = url
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if url.startswith(("s3://", "s3a://")):
            options |= s3_options(endpoint_url)
        try:
            self.fs, path = fsspec.core.url_to_fs(url, **options)
        except (ValueError, ImportError, OSError) as error:
            raise SourceError(f"cannot open {url}: {_one_line(error)}") from None
        self.path: str = path.rstrip("/") or path
        protocol = self.fs.protocol
        self.hashes_content = bool(_HASHED & ({protocol} if isinstance(protocol, str) else set(protocol)))

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn what a file system raises into one line.

        Raises:
            SourceError: instead of any error of the file system.
        """
        try:
            yield
        except SourceError:
            raise
        except FileNotFoundError:
            raise SourceError(f"cannot {doing} {self.url}: it does not exist") from None
        except (OSError, BotoCoreError) as error:
            raise SourceError(f"cannot {doing} {self.url}: {_one_line(error)}") from None

    def find(self) -> dict[str, dict[str, Any]]:
        """Everything below the URL: path relative to it -> what the file system knows of it.

        Raises:
            SourceError: the URL is a file, or cannot be listed.
        """
        with self.explained("list"):
            found: dict[str, dict[str, Any]] = self.fs.find(self.path, detail=True)
        if set(found) == {self.path}:
            raise SourceError(f"{self.url} is a file, a folder is expected (tar shards are a webdataset source)")
        prefix = self.path.rstrip("/") + "/"
        return {
            path.removeprefix(prefix): info
            for path, info in found.items()
            if not path.endswith("/")  # markers of folders that S3 consoles leave
        }

    def checksum(self, path: str, info: dict[str, Any]) -> str:
        """What identifies a file's content: its hash where that is cheap, else what the server says of it."""
        if self.hashes_content:
            with self.open(path) as stream:
                return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        etag = info.get("ETag") or info.get("etag")
        if etag:
            return "etag:" + str(etag).strip('"')
        changed = info.get("mtime") or info.get("LastModified") or info.get("created") or ""
        return f"stat:{info.get('size')}-{changed}"

    def open(self, path: str = "") -> BufferedReader:
        """A file for reading from its start on."""
        return cast("BufferedReader", self.fs.open(self._absolute(path), "rb"))

    def read(self, entry: SourceEntry | Partner, path: str = "", offset: int = 0) -> bytes:
        """The bytes of an entry at `offset` of a file, checked against what was listed.

        Raises:
            SourceChanged: they are not what was listed.
            SourceError: they cannot be read.
        """
        if entry.bytes == 0:
            return b""
        for _ in range(_ATTEMPTS):  # a reply can be short or wrong, and look whole
            data = self._range(entry, path, offset)
            hashed = entry.checksum.startswith("sha256:")
            if len(data) == entry.bytes and (not hashed or content_checksum(data) == entry.checksum):
                return data
        raise SourceChanged(f"{entry.path} of {self.url} changed since it was listed: run again to list it anew")

    def _range(self, entry: SourceEntry | Partner, path: str, offset: int) -> bytes:
        with self.explained(f"read {entry.path} of"):
            try:
                data: bytes = self.fs.cat_file(self._absolute(path), start=offset, end=offset + entry.bytes)
            except FileNotFoundError:
                raise SourceChanged(
                    f"{entry.path} of {self.url} is gone since it was listed: run again to list it anew"
                ) from None
        return data

    def _absolute(self, path: str) -> str:
        return f"{self.path.rstrip('/')}/{path}" if path else self.path


def _refuse(url: str) -> None:
    if url.startswith("pipe:"):
        raise SourceError(f"{url[:60]}: pipe: URLs run shell commands and are refused; give a path or an fsspec URL")
    if "::" in url:
        raise SourceError(f"{url}: chained URLs (::) are refused; give the URL of the files themselves")
    if _CREDENTIALS.search(url):
        # The URL is part of the recipe, which is published.
        raise SourceError("a source URL holds a password: give credentials in the environment instead")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
