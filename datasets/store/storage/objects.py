"""Object stores through fsspec: S3 and whatever speaks its protocol; other fsspec file systems by the same calls.

What has to be known about s3fs (each is a test):

- `with fs.open(path, "wb")` publishes the partial object when an exception leaves the block: whole objects only, by
  pipe_file, which is one PUT, or above 100 MB a multipart upload that is visible only when it is complete.
- Exclusive creation is pipe_file(mode="create"), a PUT with If-None-Match: *. A 412 arrives as OSError(22) with the
  response in __cause__. After a lost reply the client's own success comes back as 412: read back and compare. A 409
  (concurrent creators) and 5xx are ours to retry. Empty objects and servers that ignore or lack the condition cannot
  be created exclusively.
- Listings are cached for ever unless use_listings_cache=False; instances are cached across changes of credentials.
- cat_file without start and end costs a HEAD; objects above 50 MiB then lose their retries. So: ranges of 8 MiB.
- makedirs and open(mode="wb") through fsspec.open create buckets; nothing here does.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import aiohttp
import fsspec.config
import fsspec.core
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from datasets.store.errors import DiskFull, ObjectMissing, StoreError, StoreNotWritable, StoreUnavailable
from datasets.store.storage.backend import Entry
from datasets.store.storage.s3_options import s3_options

__all__ = ["ObjectBackend"]

_T = TypeVar("_T")
_RANGE_BYTES = 8 << 20
_UPLOAD_BYTES = 32 << 20
_ATTEMPTS = 6
_UNREACHABLE_ATTEMPTS = 2
_FAILURES = (OSError, BotoCoreError, ClientError, aiohttp.ClientError, TimeoutError)
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidClientTokenId",
    "AuthorizationHeaderMalformed", "InvalidSecurity", "RequestTimeTooSkewed",
}  # fmt: skip
_FULL = ("QuotaExceeded", "StorageFull")


class ObjectBackend:
    """Objects below a bucket's prefix."""

    def __init__(self, url: str, endpoint_url: str | None) -> None:
        self._url = url
        self._endpoint = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        self._is_s3 = url.startswith(("s3://", "s3a://"))
        if self._is_s3:
            options |= s3_options(endpoint_url)
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ValueError, ImportError, OSError) as error:  # some file systems connect when they are made
            raise StoreUnavailable(f"cannot open the store {url}: {_one_line(error)}") from error
        self._root: str = root.rstrip("/")

    def read(self, path: str) -> bytes:
        """Return a whole object in one request."""
        try:
            # An open range spares the HEAD that cat_file otherwise sends first.
            data: bytes = self._call("read", path, lambda: self._fs.cat_file(self._absolute(path), start=0, end=None))
        except _PastTheEndError:
            return b""
        return data

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return a piece of an object; above 8 MiB by several requests at once."""
        if end <= start:
            return b""
        absolute = self._absolute(path)
        try:
            if end - start <= _RANGE_BYTES:
                return bytes(self._call("read", path, lambda: self._fs.cat_file(absolute, start=start, end=end)))
            starts = list(range(start, end, _RANGE_BYTES))
            ends = [*starts[1:], end]
            pieces = self._call(
                "read", path, lambda: self._fs.cat_ranges([absolute] * len(starts), starts, ends, on_error="raise")
            )
        except _PastTheEndError:
            return b""
        return b"".join(pieces)

    def write(self, path: str, data: bytes) -> None:
        """Put a whole object."""
        # From twice this size on it is a multipart upload: in parallel, and visible only when complete.
        options = {"chunksize": _UPLOAD_BYTES} if self._is_s3 else {}
        self._call("write", path, lambda: self._fs.pipe_file(self._absolute(path), data, **options))

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole object if there is none, in one PUT."""
        assert data, "an empty object cannot be created exclusively: s3fs would overwrite"
        for attempt in range(_ATTEMPTS):
            try:
                self._fs.pipe_file(self._absolute(path), data, mode="create", **self._single_put(data))
            except FileExistsError:
                return self._is_ours(path, data)
            except _FAILURES as error:
                status = _status(error)
                if status == 412:
                    return self._is_ours(path, data)
                if status == 501:
                    return self._create_unprotected(path, data)
                if not _may_pass(status, attempt):
                    self._explain(error, "write", path)
                time.sleep(0.1 * 2**attempt)
            else:
                return True
        raise AssertionError("unreachable: the last attempt returns or raises")

    def create_is_exclusive(self) -> bool:
        """Create one object twice: a server that ignores If-None-Match, or lacks it, accepts both."""
        if not self._is_s3:
            return False
        probe = f"claims/.probe-{uuid.uuid4().hex}"
        try:
            self.create(probe, b"first")
            return not self.create(probe, b"second")
        finally:
            self.delete(probe)

    def size(self, path: str) -> int | None:
        """Return an object's bytes."""
        try:
            info = self._call("read", path, lambda: self._fs.info(self._absolute(path)))
        except ObjectMissing:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def entries(self, prefix: str) -> list[Entry]:
        """List all objects below a folder."""
        folder = self._absolute(prefix)
        try:
            found = self._call("list", prefix, lambda: self._fs.find(folder, detail=True))
        except ObjectMissing:
            return []
        skip = len(self._root) + 1
        below = {name: info for name, info in found.items() if name.startswith(folder + "/") and not name.endswith("/")}
        return [Entry(name[skip:], int(info["size"]), _modified(info)) for name, info in below.items()]

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below a folder."""
        try:
            infos = self._call("list", prefix, lambda: self._fs.ls(self._absolute(prefix), detail=True, refresh=True))
        except ObjectMissing:
            return []
        return sorted(info["name"].rstrip("/").rsplit("/", 1)[-1] for info in infos if info["type"] == "directory")

    def delete(self, path: str) -> None:
        """Remove one key; the bulk call fails on servers that want Content-MD5."""
        try:
            self._call("write", path, lambda: self._fs.rm_file(self._absolute(path)))
        except ObjectMissing:
            return

    def _absolute(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _single_put(self, data: bytes) -> dict[str, Any]:
        # Several gateways ignore the condition when it comes with CompleteMultipartUpload.
        return {"chunksize": len(data)} if self._is_s3 else {}

    def _is_ours(self, path: str, data: bytes) -> bool:
        """Whether the object that is in our way is the one that we put, with the reply lost."""
        try:
            return self.read_range(path, 0, len(data) + 1) == data
        except ObjectMissing:
            return False

    def _create_unprotected(self, path: str, data: bytes) -> bool:
        if self.size(path) is not None:
            return False
        self.write(path, data)
        return True

    def _call(self, verb: str, path: str, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except _FAILURES as error:
            self._explain(error, verb, path)

    def _explain(self, error: Exception, verb: str, path: str) -> NoReturn:
        """Say in one line what failed; never quote the server or the client, who may quote credentials."""
        code, status = _code(error), _status(error)
        where = f" at {self._endpoint}" if self._endpoint else ""
        if code in ("NoSuchBucket",) or (isinstance(error, FileNotFoundError) and verb in ("write",)):
            raise StoreUnavailable(
                f"there is no bucket {self._root.split('/')[0]!r}{where}; create it, or correct the url {self._url}"
            ) from error
        if isinstance(error, FileNotFoundError) or status == 404:
            raise ObjectMissing(f"there is no {self._url.rstrip('/')}/{path}") from None
        if code == "InvalidRange" or status == 416:
            raise _PastTheEndError(f"{path} ends before the range") from None
        if isinstance(error, NoCredentialsError | PartialCredentialsError) or code in _BAD_CREDENTIALS:
            raise StoreUnavailable(
                f"the credentials for {self._url}{where} are missing or refused ({code or 'none found'}); "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
            ) from error
        if status == 507 or (code is not None and code.endswith(_FULL)):
            raise DiskFull(
                f"no room to write {self._url.rstrip('/')}/{path}{where} ({code}); free some space"
            ) from error
        if isinstance(error, PermissionError) or status == 403:
            kind = StoreNotWritable if verb == "write" else StoreUnavailable
            raise kind(f"no permission to {verb} {self._url.rstrip('/')}/{path}{where} ({code or 'denied'})") from error
        if status is None:
            raise StoreUnavailable(
                f"cannot reach {self._url}{where} ({type(error).__name__}); check the network and the endpoint"
            ) from error
        raise StoreUnavailable(
            f"the store {self._url}{where} answered {code or 'an error'} ({status}) to {verb} {path}; try again"
        ) from error


class _PastTheEndError(StoreError):
    """A range begins at or after the end of the object: with start 0, the object is empty."""


def _may_pass(status: int | None, attempt: int) -> bool:
    """Whether a failed creation is worth another attempt; without an answer s3fs has itself tried several times."""
    if status is None:
        return attempt < _UNREACHABLE_ATTEMPTS
    return attempt < _ATTEMPTS - 1 and (status == 409 or status >= 500)


def _response(error: BaseException) -> dict[str, Any]:
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _status(error: BaseException) -> int | None:
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status is not None else None


def _code(error: BaseException) -> str | None:
    code = _response(error).get("Error", {}).get("Code")
    return str(code) if code else None


def _modified(info: dict[str, Any]) -> float:
    moment = info.get("LastModified") or info.get("mtime") or info.get("created") or info.get("updated")
    if isinstance(moment, datetime):
        return moment.timestamp()
    return float(moment) if isinstance(moment, int | float) else time.time()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
