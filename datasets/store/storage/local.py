"""A folder of a local or mounted file system.

A write goes to a temporary file in the same folder, is synced, and then renamed (os.replace) or, for exclusive
creation, hard-linked (os.link fails if the name exists): no reader ever sees a part of an object. fsspec's own local
file system writes in place, creates by check-then-write and moves its transactions across devices; hence the os calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from datasets.store.errors import DiskFull, ObjectMissing, StoreNotWritable, StoreUnavailable
from datasets.store.storage.backend import Entry, temporary_name

__all__ = ["LocalBackend"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_ATTEMPTS = 5


class LocalBackend:
    """Objects are files below `root`."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def read(self, path: str) -> bytes:
        """Return a whole file."""
        with self._reading(path):
            return (self._root / path).read_bytes()

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return a piece of a file."""
        with self._reading(path), (self._root / path).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file by rename."""
        with self._written(path, data) as temporary:
            temporary.replace(self._root / path)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file by hard link, which fails if the name exists."""
        try:
            with self._written(path, data) as temporary:
                _link(temporary, self._root / path, data)
        except FileExistsError:
            return False
        return True

    def create_is_exclusive(self) -> bool:
        """POSIX promises it."""
        return True

    def size(self, path: str) -> int | None:
        """Return a file's bytes."""
        try:
            status = (self._root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self._root / path}: {error.strerror}") from error
        return status.st_size if not (self._root / path).is_dir() else None

    def entries(self, prefix: str) -> list[Entry]:
        """Walk a folder, through links but not in circles; files that vanish meanwhile are left out."""
        found: list[Entry] = []
        seen: set[Path] = set()
        for folder, subfolders, names in os.walk(self._root / prefix, onerror=_unless_missing, followlinks=True):
            here = Path(folder)
            if here.resolve() in seen:
                subfolders.clear()
                continue
            seen.add(here.resolve())
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    status = (here / name).stat()
                    found.append(
                        Entry((here / name).relative_to(self._root).as_posix(), status.st_size, status.st_mtime)
                    )
        return found

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below a folder."""
        try:
            return sorted(child.name for child in (self._root / prefix).iterdir() if child.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            _unless_missing(error)
            return []

    def delete(self, path: str) -> None:
        """Remove a file, and the folders that this leaves empty."""
        file = self._root / path
        try:
            file.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            self._refuse(error, path)
        for folder in file.parents:
            if folder == self._root or self._root not in folder.parents:
                return
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or somebody else was faster

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(f"there is no {self._root / path}") from None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self._root / path}: {error.strerror}") from error

    @contextlib.contextmanager
    def _written(self, path: str, data: bytes) -> Iterator[Path]:
        """Give a whole, synced temporary file beside `path`; afterwards it is gone and the folder's entry is synced."""
        temporary = self._root / temporary_name(path)
        try:
            _with_folder(temporary.parent, lambda: _write_synced(temporary, data))
            yield temporary
            _sync_folder(temporary.parent)
        except FileExistsError as error:
            if not (self._root / path).is_file():  # a file where a folder of the path should be
                self._refuse(error, path)
            raise
        except OSError as error:
            self._refuse(error, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _refuse(self, error: OSError, path: str) -> NoReturn:
        if error.errno in _FULL:
            raise DiskFull(
                f"no room to write {self._root / path}: {error.strerror}; free some space (tessera gc helps)"
            ) from error
        raise StoreNotWritable(
            f"the store {self._root} is not writable: {error.strerror} ({path}); "
            "give another store, or yourself the permission to write there"
        ) from error


def _with_folder(folder: Path, write: Callable[[], None]) -> None:
    """Write into a folder that a concurrent delete() may remove while it is still empty."""
    for attempt in range(_ATTEMPTS):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return write()
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise
    return None


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(temporary: Path, path: Path, data: bytes) -> None:
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT, some network mounts: exclusive still, but a kill can leave a torn object, which readers will notice.
        _write_synced(path, data)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise StoreUnavailable(f"cannot list {error.filename}: {error.strerror}") from error
