"""Images below a folder or prefix of any fsspec file system; labels by first sub-folder or from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datasets.config import FolderSource
from datasets.sources.filesystem import Remote
from datasets.sources.labels import read_labels
from datasets.sources.listing import Listing, Progress, Skipped, SourceEntry, is_image

__all__ = ["Folder"]

_NUM_HASHERS = 4


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
        found = self._remote.find()
        for path in list(leave_out(found)) if leave_out is not None else ():
            del found[path]
        labels = None if self._config.labels is None else read_labels(self._config)
        if labels is not None:
            self._leave_out_the_table(found)
        entries: list[SourceEntry] = []
        skipped = [
            Skipped(path, "missing_file", "the table names it") for path in sorted(set(labels or ()) - set(found))
        ]
        with ThreadPoolExecutor(_NUM_HASHERS) as pool:
            results = pool.map(lambda item: self._candidate(item[0], item[1], labels), sorted(found.items()))
            for done, result in enumerate(results, start=1):
                if isinstance(result, SourceEntry):
                    entries.append(result)
                else:
                    skipped.append(result)
                if progress is not None:
                    progress(done, len(found))
        return Listing(entries, skipped).require_images(self._config.url)

    def read(self, entry: SourceEntry) -> bytes:
        """The bytes of a listed image.

        Raises:
            SourceChanged: they are not what was listed.
        """
        return self._remote.read(entry, entry.path)

    def _leave_out_the_table(self, found: dict[str, dict[str, Any]]) -> None:
        table = Remote(str(self._config.labels), self._config.endpoint_url).path
        found.pop(table.removeprefix(self._remote.path.rstrip("/") + "/"), None)

    def _candidate(
        self, path: str, info: dict[str, Any], labels: dict[str, str | None] | None
    ) -> SourceEntry | Skipped:
        """A file as an entry, or why it is none."""
        reason, detail = _reason_to_skip(path, info, labels)
        if not reason:
            try:
                checksum = self._remote.checksum(path, info)
            except OSError as error:
                reason, detail = "unreadable", error.strerror or type(error).__name__
        if reason:
            return Skipped(path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), reason, detail)
        label = labels[path] if labels is not None else _first_folder(path)
        return SourceEntry(path, int(info["size"]), checksum, label)


def _reason_to_skip(path: str, info: dict[str, Any], labels: dict[str, str | None] | None) -> tuple[str, str]:
    if not path.isprintable():  # names that are not UTF-8, too: no manifest could hold them
        return "unreadable", "the name is not printable text"
    if not is_image(path):
        return "wrong_extension", ""
    if info.get("type", "file") != "file":
        return "unreadable", f"it is of type {info['type']}, not a file"
    if labels is not None and path not in labels:
        return "not_in_table", ""
    if labels is not None and labels[path] is None:
        return "no_label", "its label in the table is empty"
    return "", ""


def _first_folder(path: str) -> str | None:
    folder, separator, _ = path.partition("/")
    return folder if separator else None
