"""Images below a folder or prefix of any fsspec file system; labels by first sub-folder or from a table."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from datasets.config import FolderSource
from datasets.prefetch import mapped_ahead
from datasets.sorting import SortedRows
from datasets.sources.filesystem import Remote, facts_of
from datasets.sources.labels import read_labels
from datasets.sources.listing import Listing, Partner, Progress, Skipped, SourceEntry, is_image
from datasets.sources.sidecars import read_sidecar, with_sidecars

__all__ = ["Folder"]

_NUM_HASHERS = 4
_AHEAD = 64


class Folder:
    """The source of kind folder."""

    def __init__(self, config: FolderSource) -> None:
        """Open the file system; nothing is listed yet.

        Raises:
            SourceError: the URL is refused or its file system cannot be opened.
        """
        self._config = config
        self._remote = Remote(config.url, config.endpoint_url)

    @property
    def remote(self) -> Remote:
        """The folder itself."""
        return self._remote

    def list(self, progress: Progress | None = None, is_other: Callable[[str], bool] | None = None) -> Listing:
        """All files below the folder, plus what a table of labels names and the folder lacks.

        Args:
            progress: told how many files are looked at.
            is_other: whether a path is no file of this source.

        Raises:
            SourceError: it cannot be listed, or has no image.
        """
        return Listing(self._items(progress, is_other or _none), origin=self._config.url)

    def read(self, entry: SourceEntry) -> bytes:
        """The bytes of a listed image.

        Raises:
            SourceChanged: they are not what was listed.
        """
        return self._remote.read(entry, entry.path)

    def read_partner(self, partner: Partner) -> bytes:
        """The bytes of a listed image's sidecar.

        Raises:
            SourceChanged: they are not what was listed.
        """
        return self._remote.read(partner, partner.path)

    def _items(self, progress: Progress | None, is_other: Callable[[str], bool]) -> Iterator[SourceEntry | Skipped]:
        files = ((path, info) for path, info in self._remote.walk() if not is_other(path))
        if self._config.sidecars:
            found = with_sidecars(files)
        else:
            found = files if self._config.labels is None else self._in_table(files)
        items = mapped_ahead(lambda item: self._candidate(*item), found, num_threads=_NUM_HASHERS, ahead=_AHEAD)
        for done, item in enumerate(items, start=1):
            yield item
            if progress is not None:
                progress(done, None)

    def _in_table(self, found: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Files with what the table says of them; what only the table knows has the type `missing`."""
        table = Remote(str(self._config.labels), self._config.endpoint_url).path
        own_name = table.removeprefix(self._remote.path.rstrip("/") + "/")
        files = SortedRows(rows=((path, 1, facts_of(info)) for path, info in found if path != own_name))
        labels = ((path, 0, label) for path, label in read_labels(self._config))
        both = heapq.merge(labels, files, key=itemgetter(0, 1))
        for path, rows in itertools.groupby(both, key=itemgetter(0)):
            info: dict[str, Any] = {"type": "missing"}
            for _, is_file, known in rows:
                info |= known if is_file else {"label": known}
            yield path, info

    def _candidate(self, path: str, info: dict[str, Any]) -> SourceEntry | Skipped:
        """A file as an entry, or why it is none."""
        if info.get("type") == "missing":
            return Skipped(path, "missing_file", "the table names it")
        if info.get("is_orphan"):
            return Skipped(path, "no_image", "no image has this sidecar", self._remote.found_checksum(path, info)[0])
        has_table = self._config.labels is not None
        reason, detail = _reason_to_skip(path, info, has_table=has_table)
        checksum, failure = self._remote.found_checksum(path, info)
        if checksum is None or reason:
            printable = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            return Skipped(printable, reason or "unreadable", detail if reason else failure, checksum)
        entry = SourceEntry(path, int(info["size"]), checksum, info["label"] if has_table else _first_folder(path))
        return read_sidecar(entry, info, self._remote, self._config.label_column) if self._config.sidecars else entry


def _none(_path: str) -> bool:
    return False


def _reason_to_skip(path: str, info: dict[str, Any], *, has_table: bool) -> tuple[str, str]:
    if not path.isprintable():  # names that are not UTF-8, too: no manifest could hold them
        return "unreadable", "the name is not printable text"
    if not is_image(path):
        return "wrong_extension", ""
    if info.get("type", "file") != "file":
        return "unreadable", f"it is of type {info['type']}, not a file"
    if has_table and "label" not in info:
        return "not_in_table", ""
    if has_table and info["label"] is None:
        return "no_label", "its label in the table is empty"
    return "", ""


def _first_folder(path: str) -> str | None:
    folder, separator, _ = path.partition("/")
    return folder if separator else None
