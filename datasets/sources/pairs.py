"""A folder whose images have second files: label maps, depth maps, … in a parallel folder, or beside them by suffix.

An image without its partner is skipped as `no_partner`, a second file without its image as `no_image`. Second files
that lie inside the source's own folder are no images of it.

Images and second files are joined by path, sorted on disk, so that memory does not grow with either.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import PurePosixPath

from datasets.pair_config import FilesPair
from datasets.prefetch import mapped_ahead
from datasets.sorting import Row, SortedRows
from datasets.sources.filesystem import Remote
from datasets.sources.folder import Folder, Found, facts_of, from_facts
from datasets.sources.listing import Listing, Partner, Progress, Skipped, SourceEntry, is_image

__all__ = ["PairedFolder"]

_NUM_HASHERS = 4
_AHEAD = 64
_Item = SourceEntry | Skipped


class PairedFolder:
    """A folder source with its pairs."""

    def __init__(self, folder: Folder, pairs: Mapping[str, FilesPair]) -> None:
        """Open the pairs' file systems; nothing is listed yet.

        Raises:
            SourceError: a URL is refused or its file system cannot be opened.
        """
        self._folder = folder
        self._pairs = {name: _SecondFiles(name, pair, folder.remote) for name, pair in sorted(pairs.items())}

    def list(self, progress: Progress | None = None) -> Listing:
        """The folder's images that have all their partners.

        Raises:
            SourceError: a folder cannot be listed, or no image has its partners.
        """
        files: Iterable[Found] = self._folder.remote.walk()
        for pair in self._pairs.values():
            files = pair.without_second_files(files)
        items: Iterable[_Item] = self._folder.items(files, progress)
        for pair in self._pairs.values():
            items = pair.attached(items)
        return Listing(items, origin=self._folder.remote.url)

    def read(self, entry: SourceEntry) -> bytes:
        """The bytes of a listed image.

        Raises:
            SourceChanged: they are not what was listed.
        """
        return self._folder.read(entry)

    def read_partner(self, partner: Partner) -> bytes:
        """The bytes of a listed image's second file.

        Raises:
            SourceChanged: they are not what was listed.
        """
        return self._pairs[partner.name].remote.read(partner, partner.path)


class _SecondFiles:
    """The files of one pair."""

    def __init__(self, name: str, config: FilesPair, source: Remote) -> None:
        self._name, self._config = name, config
        self.remote = source if config.url is None else Remote(config.url, config.endpoint_url)
        self._inside = self._place_in(source)

    def without_second_files(self, files: Iterable[Found]) -> Iterator[Found]:
        """Those files of the source that are no second files of others."""
        if self._inside is None:
            yield from files
            return
        there, claimed = SortedRows(2), SortedRows(2)
        for path, info in files:
            there.add((path, 1, *facts_of(info)))
            if is_image(path):
                claimed.add((f"{self._inside}{self._partner_of(path)}", 0))
        for path, rows in itertools.groupby(heapq.merge(claimed, there, key=itemgetter(0, 1)), key=itemgetter(0)):
            marks = list(rows)
            if marks[0][1] == 1:
                yield path, from_facts(marks[0][2:])

    def attached(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Images with their partners; those without, and partners without an image, with the reason."""
        images = SortedRows(2)
        for item in items:
            if isinstance(item, Skipped):
                yield item
            elif (partner := self._partner_of(item.path)) is None:
                yield self._alone(item, "its name does not end as image_suffix says")
            else:
                images.add((partner, 0, *item.to_row()))
        files = SortedRows(2, ((path, 1, *facts_of(info)) for path, info in self.remote.walk()))
        joined = itertools.groupby(heapq.merge(images, files, key=itemgetter(0, 1)), key=itemgetter(0))
        groups = ((path, list(rows)) for path, rows in joined)
        for found in mapped_ahead(lambda group: self._joined(*group), groups, num_threads=_NUM_HASHERS, ahead=_AHEAD):
            yield from found

    def _joined(self, path: str, rows: list[Row]) -> list[_Item]:
        """What becomes of a second file and the images that ask for it."""
        images = [SourceEntry.from_row(row[2:]) for row in rows if row[1] == 0]
        if rows[-1][1] == 0:
            return [self._alone(image, f"there is no {path}") for image in images]
        if not images:
            name = f"{self._name}:{path}"
            return [] if self._inside is not None else [Skipped(name, "no_image", "no image has this second file")]
        info = from_facts(rows[-1][2:])
        try:
            partner = Partner(self._name, path, int(info["size"]), self.remote.checksum(path, info))
        except OSError as error:
            detail = f"{self._name}: {path}: {error.strerror or type(error).__name__}"
            return [Skipped(image.path, "unreadable", detail) for image in images]
        return [replace(image, partners=(*image.partners, partner)) for image in images]

    def _alone(self, image: SourceEntry, why: str) -> Skipped:
        return Skipped(image.path, "no_partner", f"{self._name}: {why}")

    def _partner_of(self, path: str) -> str | None:
        """Path of an image's second file; None where the image's name is not as `image_suffix` says."""
        stem = path.removesuffix(PurePosixPath(path).suffix)
        if not stem.endswith(self._config.image_suffix):
            return None
        return self._config.pattern.replace("{path}", stem.removesuffix(self._config.image_suffix))

    def _place_in(self, source: Remote) -> str | None:
        """Where in the source they lie, a prefix of its paths; None where they lie elsewhere."""
        own, whole = self.remote.path.rstrip("/"), source.path.rstrip("/")
        if self.remote.fs.protocol != source.fs.protocol:
            return None
        if own == whole:
            return ""
        return own.removeprefix(whole + "/") + "/" if own.startswith(whole + "/") else None
