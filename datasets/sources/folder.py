"""Images below a folder or prefix of any fsspec file system; labels by first sub-folder or from a table."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
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
_Found = tuple[str, dict[str, Any]]


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

    def list(
        self, progress: Progress | None = None, leave_out: Callable[[Iterable[str]], Iterable[str]] | None = None
    ) -> Listing:
        """All files below the folder, plus what a table of labels names and the folder lacks.

        Args:
            progress: told how many files are looked at.
            leave_out: of the paths that there are, those that are no files of this source.

        Raises:
            SourceError: it cannot be listed, or has no image.
        """
        left_out = set() if leave_out is None else set(leave_out([path for path, _ in self._remote.walk()]))
        return Listing(self._items(left_out, progress), origin=self._config.url)

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

    def _items(self, left_out: set[str], progress: Progress | None) -> Iterator[SourceEntry | Skipped]:
        there = ((path, info) for path, info in self._remote.walk() if path not in left_out)
        if self._config.sidecars:
            found = with_sidecars(there)
        else:
            found = there if self._config.labels is None else self._in_table(there)
        items = mapped_ahead(lambda item: self._candidate(*item), found, num_threads=_NUM_HASHERS, ahead=_AHEAD)
        for done, item in enumerate(items, start=1):
            yield item
            if progress is not None:
                progress(done, None)

    def _in_table(self, there: Iterable[_Found]) -> Iterator[_Found]:
        """Files with what the table says of them; what only the table knows has the type `missing`."""
        table = Remote(str(self._config.labels), self._config.endpoint_url).path
        own_name = table.removeprefix(self._remote.path.rstrip("/") + "/")
        files = SortedRows(rows=((path, 1, facts_of(info)) for path, info in there if path != own_name))
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
        if info.get("type") == "orphan":
            return Skipped(path, "no_image", "no image has this sidecar")
        has_table = self._config.labels is not None
        reason, detail = _reason_to_skip(path, info, has_table=has_table)
        if not reason:
            try:
                checksum = self._remote.checksum(path, info)
            except OSError as error:
                reason, detail = "unreadable", error.strerror or type(error).__name__
        if reason:
            return Skipped(path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), reason, detail)
        entry = SourceEntry(path, int(info["size"]), checksum, info["label"] if has_table else _first_folder(path))
        return read_sidecar(entry, info, self._remote, self._config.label_column) if self._config.sidecars else entry


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
