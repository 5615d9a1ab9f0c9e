"""A folder whose images have second files: label maps, depth maps, … in a parallel folder, or beside them by suffix.

An image without its partner is skipped as `no_partner`, a second file without its image as `no_image`. Second files
that lie inside the source's own folder are no images of it. The names of all second files are held in memory, some 300
bytes each; images are listed as of any folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from datasets.pair_config import FilesPair
from datasets.prefetch import mapped_ahead
from datasets.sources.filesystem import Remote
from datasets.sources.folder import Folder
from datasets.sources.listing import Listing, Partner, Progress, Skipped, SourceEntry, is_image
from datasets.sources.sidecars import SIDECAR

__all__ = ["PairedFolder"]

_NUM_HASHERS = 4
_AHEAD = 64


class PairedFolder:
    """A folder source with its pairs."""

    def __init__(self, folder: Folder, pairs: Mapping[str, FilesPair]) -> None:
        """Open the pairs' file systems; nothing is listed yet.

        Raises:
            SourceError: a URL is refused or its file system cannot be opened.
        """
        self._folder = folder
        self._pairs = {name: _SecondFiles(pair, folder.remote) for name, pair in sorted(pairs.items())}

    def list(self, progress: Progress | None = None) -> Listing:
        """The folder's images that have all their partners.

        Raises:
            SourceError: a folder cannot be listed, or no image has its partners.
        """
        found = {name: dict(pair.remote.walk()) for name, pair in self._pairs.items()}
        images = self._folder.list(progress, self._second_files().__contains__)
        return Listing(self._items(images, found), origin=self._folder.remote.url)

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
        if partner.name == SIDECAR:
            return self._folder.read_partner(partner)
        return self._pairs[partner.name].remote.read(partner, partner.path)

    def _items(self, images: Listing, found: Mapping[str, Mapping[str, Any]]) -> Iterator[SourceEntry | Skipped]:
        yield from images.skipped
        yield from mapped_ahead(
            lambda entry: self._with_partners(entry, found), images, num_threads=_NUM_HASHERS, ahead=_AHEAD
        )
        yield from self._without_image(images, found)

    def _second_files(self) -> set[str]:
        """Those files of the source that are second files of others."""
        inside = [pair for pair in self._pairs.values() if pair.inside is not None]
        there = {path for path, _ in self._folder.remote.walk()} if inside else set[str]()
        return {f"{pair.inside}{pair.partner_of(path)}" for pair in inside for path in there if is_image(path)} & there

    def _with_partners(self, entry: SourceEntry, found: Mapping[str, Mapping[str, Any]]) -> SourceEntry | Skipped:
        partners = list(entry.partners)
        for name, pair in self._pairs.items():
            path = pair.partner_of(entry.path)
            if path is None or path not in found[name]:
                missing = "its name does not end as image_suffix says" if path is None else f"there is no {path}"
                return Skipped(entry.path, "no_partner", f"{name}: {missing}", entry.checksum)
            checksum, failure = pair.remote.found_checksum(path, found[name][path])
            if checksum is None:
                return Skipped(entry.path, "unreadable", f"{name}: {path}: {failure}", entry.checksum)
            partners.append(Partner(name, path, int(found[name][path]["size"]), checksum))
        return replace(entry, partners=tuple(partners))

    def _without_image(self, images: Listing, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Skipped]:
        """Second files of a folder of their own that belong to no image."""
        for name, pair in self._pairs.items():
            if pair.inside is None:
                used = {pair.partner_of(entry.path) for entry in images}
                for path in sorted(set(found[name]) - used):
                    checksum, _ = pair.remote.found_checksum(path, found[name][path])
                    yield Skipped(f"{name}:{path}", "no_image", "no image has this second file", checksum)


class _SecondFiles:
    """The files of one pair."""

    def __init__(self, config: FilesPair, source: Remote) -> None:
        self._config = config
        self.remote = source if config.url is None else Remote(config.url, config.endpoint_url)
        self.inside = self._place_in(source)
        """Where in the source they lie: a prefix of its paths; None where they lie elsewhere."""

    def partner_of(self, path: str) -> str | None:
        """Path of an image's second file; None where the image's name is not as `image_suffix` says."""
        name = PurePosixPath(path).name
        stem = path.removesuffix("." + name.rpartition(".")[2])
        if not stem.endswith(self._config.image_suffix):
            return None
        return self._config.pattern.replace("{path}", stem.removesuffix(self._config.image_suffix))

    def _place_in(self, source: Remote) -> str | None:
        own, whole = self.remote.path.rstrip("/"), source.path.rstrip("/")
        if self.remote.fs.protocol != source.fs.protocol:
            return None
        if own == whole:
            return ""
        return own.removeprefix(whole + "/") + "/" if own.startswith(whole + "/") else None
