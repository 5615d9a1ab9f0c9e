"""Shards of a remote store on the local disk: each is fetched once, whole and verified, and then read by ranges.

A record by itself is a request; a shard of thousands is a request for every 8 MiB. Files are named by their content, so
that runs and corpora that share shards share them here, too, and processes may use one folder at once: a file appears
whole or not at all, and one that is deleted while another process reads it stays readable to that one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections import defaultdict
from io import BufferedReader
from pathlib import Path

from datasets.store import Artifact

__all__ = ["CachedShards", "cache_folder", "with_shard_cache"]

_TEMPORARY = ".tmp-"
_ABANDONED_SECONDS = 3600.0
_LOG = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where shards are kept: TESSERA_CACHE, or the user's cache folder."""
    root = os.environ.get("TESSERA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tessera"
    return Path(root).expanduser() / "shards"


def with_shard_cache(artifact: Artifact, limit_bytes: int) -> Artifact | CachedShards:
    """The artifact with a cache before its shards, if its store is not on this machine's own disk.

    Args:
        artifact: a corpus.
        limit_bytes: of the whole folder; 0: no cache.
    """
    here = artifact.storage.root.startswith(("file://", "memory://")) or "://" not in artifact.storage.root
    return artifact if here or limit_bytes == 0 else CachedShards(artifact, cache_folder(), limit_bytes)


class CachedShards:
    """The files of a corpus, its shards by way of a folder. Safe in threads."""

    def __init__(self, artifact: Artifact, folder: Path, limit_bytes: int) -> None:
        """Keep shards in `folder`, up to `limit_bytes` in all; one shard that is larger is kept while it is needed."""
        self._artifact, self._folder, self._limit = artifact, folder, limit_bytes
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._verified: set[str] = set()

    def read(self, path: str) -> bytes:
        """The whole file, its sha256 checked."""
        return self._artifact.read(path)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file.

        Raises:
            CorruptObject: the shard in the store is not what was published.
        """
        if not path.endswith(".tar"):
            return self._artifact.read_range(path, start, end)
        with self._opened(path) as file:
            return os.pread(file.fileno(), end - start, start)

    def _opened(self, path: str) -> BufferedReader:
        """The shard's file, fetched if need be; another process may delete it at any time."""
        entry = self._artifact.entry(path)
        local = self._folder / f"{entry.sha256}.tar"
        with self._locks[entry.sha256]:
            for _ in range(2):
                try:
                    file = local.open("rb")
                except FileNotFoundError:
                    self._fetch(path, local)
                    self._verified.add(entry.sha256)
                    continue
                if entry.sha256 in self._verified or hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                    self._verified.add(entry.sha256)
                    os.utime(local)
                    return file
                file.close()
                _LOG.warning("%s is damaged and is fetched again", local)
                local.unlink(missing_ok=True)
            return local.open("rb")

    def _fetch(self, path: str, local: Path) -> None:
        data = self._artifact.read(path)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room(len(data))
        temporary = local.with_suffix(f"{_TEMPORARY}{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(data)
            temporary.replace(local)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Delete what was not used for the longest time, and what killed writers left an hour ago."""
        found = []
        for file in self._folder.iterdir():
            try:
                status = file.stat()
            except FileNotFoundError:
                continue
            if file.suffix == ".tar":
                found.append((status.st_mtime_ns, status.st_size, file))
            elif _TEMPORARY in file.name and status.st_mtime < time.time() - _ABANDONED_SECONDS:
                file.unlink(missing_ok=True)
        used = sum(size for _, size, _ in found)
        # Half of what is free belongs to others.
        limit = min(self._limit, used + shutil.disk_usage(self._folder).free // 2)
        for _, size, file in sorted(found):
            if used + needed <= limit:
                return
            file.unlink(missing_ok=True)
            used -= size
