"""Reading a source's files over fsspec: one place for the options and the traps of foreign file systems.

The traps (each tried): a file system that caches listings answers from the first one for ever; `cat_file` without a
range costs S3 a HEAD more; a chained URL (`a::b`) can run another file system's code; an instance that was used before
a fork fails after it, so sources are opened where they are used.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING, Any, cast

import fsspec
from botocore.exceptions import BotoCoreError

from datasets.errors import SourceChanged, SourceError
from datasets.sources.listing import Partner, SourceEntry, content_checksum
from datasets.store.storage.s3_options import s3_options

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Remote", "facts_of"]

_CREDENTIALS = re.compile(r"://[^/@]*:[^/@]*@")
_HASHED = {"file", "local", "memory"}
_ATTEMPTS = 3
_FACTS = ("size", "type", "ETag", "etag", "mtime", "LastModified", "created")


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
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self.hashes_content = bool(_HASHED & self._protocols)

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

    def walk(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Everything below the URL, page by page: path relative to it, and what the file system knows of it.

        Raises:
            SourceError: the URL is a file, or cannot be listed.
        """
        prefix = self.path.rstrip("/") + "/"
        found = False
        with self.explained("list"):
            for info in self._infos():
                if not info["name"].endswith("/"):  # markers of folders that S3 consoles leave
                    found = True
                    yield info["name"].removeprefix(prefix), info
            if not found and self.fs.isfile(self.path):
                raise SourceError(f"{self.url} is a file, a folder is expected (tar shards are a webdataset source)")

    def _infos(self) -> Iterator[dict[str, Any]]:
        if self._protocols & {"s3", "s3a"}:
            return self._s3_pages()
        if self._protocols & {"file", "local"}:
            return self._local_files(self.path)
        folders = self.fs.walk(self.path, detail=True)
        return (info for _, _, files in folders for info in files.values())

    def _s3_pages(self) -> Iterator[dict[str, Any]]:
        """A page of 1,000 keys at a time; s3fs itself would answer with the whole listing in one dictionary."""
        bucket, key, _ = self.fs.split_path(self.path)
        asked = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""}
        while True:
            page = self.fs.call_s3("list_objects_v2", **asked)
            for item in page.get("Contents", ()):
                yield {
                    "name": f"{bucket}/{item['Key']}",
                    "size": item["Size"],
                    "ETag": item.get("ETag"),
                    "type": "file",
                }
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _local_files(self, folder: str) -> Iterator[dict[str, Any]]:
        """One folder's names at a time are never all in memory either."""
        if self.fs.isfile(folder):
            return
        folders = [folder]
        while folders:
            with os.scandir(folders.pop()) as items:
                for item in items:
                    try:
                        info = self.fs.info(item)
                    except FileNotFoundError:  # it is gone since
                        continue
                    if info["type"] == "directory":
                        folders.append(item.path)
                    else:
                        yield info

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

    def found_checksum(self, path: str, info: dict[str, Any]) -> tuple[str | None, str]:
        """The checksum, or None and why there is none. No pipe is read, which would wait for ever."""
        if info.get("type", "file") != "file":
            return None, f"it is of type {info['type']}, not a file"
        try:
            return self.checksum(path, info), ""
        except OSError as error:
            return None, error.strerror or type(error).__name__

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


def facts_of(info: dict[str, Any]) -> dict[str, Any]:
    """What of a file system's knowledge is used here, as JSON scalars."""
    known = {name: info[name] for name in _FACTS if info.get(name) is not None}
    return {name: value if isinstance(value, (str, int, float)) else str(value) for name, value in known.items()}


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
