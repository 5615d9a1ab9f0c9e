"""What a source has: its images, what of it cannot be one and why, and the digest that names its state.

A listing is sorted by path, so that the same source gives the same listing on every machine and file system. Nothing
that a source names is silent: what is no candidate for a record is in `skipped`, with a reason.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

from datasets.errors import SourceError
from datasets.sorting import Row, SortedRows
from vqgan_core.config import canonical_json

__all__ = [
    "BY_RULE",
    "IMAGE_SUFFIXES",
    "Listing",
    "Partner",
    "Progress",
    "Skipped",
    "Source",
    "SourceEntry",
    "content_checksum",
    "is_image",
]

Progress = Callable[[int, int | None], None]
"""Told how many items are done and, where it is known, of how many."""

IMAGE_SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"}
    | {".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga"}
    | {".tif", ".tiff", ".webp"}
)
"""Names that claim to be images. HEIC is no format that Pillow reads: such files are named in the quarantine."""


@dataclass(frozen=True, slots=True)
class Partner:
    """A second file of an image: the name of its pair, where it is and what it was when it was listed."""

    name: str
    path: str
    """Relative to the pair's own folder."""
    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One image of a source: where it is, what it was when it was listed, and its label."""

    path: str
    bytes: int
    checksum: str
    """`sha256:…` of the content, `etag:…` of object storage, or `stat:size-mtime`."""
    label: str | None
    location: tuple[str, int] | None = None
    """File and offset of an image inside a container; not part of the listing's digest."""
    partners: tuple[Partner, ...] = ()
    """Its second files, by name."""

    @property
    def identity(self) -> list[Any]:
        """What makes it this image and no other, ready for JSON: where it was read from does not."""
        partners = [[list(astuple(partner)) for partner in self.partners]] if self.partners else []
        return [self.path, self.bytes, self.checksum, self.label, *partners]

    def to_row(self) -> Row:
        """All of it, flat, the path first."""
        return (*self.to_table_row(), *(self.location or (None, None)))

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> SourceEntry:
        """The entry of a row, or of a row of a unit's table."""
        path, num_bytes, checksum, label, partners, *location = row
        second_files = tuple(Partner(*partner) for partner in json.loads(partners)) if partners else ()
        file, offset = location or (None, 0)
        return cls(path, num_bytes, checksum, label, None if file is None else (file, offset), second_files)

    def to_table_row(self) -> Row:
        """Its identity, flat."""
        partners = canonical_json([astuple(partner) for partner in self.partners]).decode() if self.partners else None
        return (self.path, self.bytes, self.checksum, self.label, partners)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that a source names and that is no candidate for a record."""

    path: str
    reason: str
    """wrong_extension, no_label, not_in_table, no_image: left out by rule. Others (missing_file, …): a fault."""
    detail: str = ""
    checksum: str | None = None
    """Of the file, as of an entry; None where there is no file, or it cannot be read. Not part of the listing's digest:
    what is left out for its name is left out whatever it holds."""


BY_RULE = frozenset({"wrong_extension", "no_label", "not_in_table", "no_image"})
"""Reasons for leaving something out that are no fault of it: they do not count towards max_bad_fraction."""


class Listing:
    """The entries of a source in the order of their paths, the skipped rest, and the order of its classes.

    Of a large source only a bounded part is in memory: entries are sorted on disk and read from there, every time.
    """

    def __init__(
        self, items: Iterable[SourceEntry | Skipped], class_names: Iterable[str] | None = None, *, origin: str
    ) -> None:
        """Take a source's items one by one.

        Args:
            items: images and the rest, in any order. Of images with one path the first is kept.
            class_names: the classes in the source's own order; None: the labels that occur, numbers in numeric order.
            origin: what to call the source in messages.

        Raises:
            SourceError: there is no image.
        """
        self._images, self._rest = SortedRows(), SortedRows(num_keys=2)
        labelled = 0
        for item in items:
            if isinstance(item, Skipped):
                self._rest.add((item.path, item.reason, item.detail, item.checksum))
            else:
                labelled += item.label is not None
                self._images.add(item.to_row())
        # Where some images have a label, those without are skipped: no class may be made up for them.
        self._withholds_unlabelled = 0 < labelled < len(self._images)
        labels: set[str] = set()
        self._count, digest = 0, hashlib.sha256()
        for entry in self:
            self._count += 1
            labels |= set() if entry.label is None else {entry.label}
            digest.update(canonical_json(entry.identity) + b"\n")
        if not self._count:
            raise SourceError(self._without_images(origin))
        self.num_skipped = len(self._images) - self._count + len(self._rest)
        """How many items are no candidates for a record."""
        self.class_names: tuple[str, ...] = tuple(_ordered(labels, class_names))
        for number, skipped in enumerate(self.skipped):
            digest.update((b"," if number else b"[") + canonical_json([skipped.path, skipped.reason, skipped.detail]))
        digest.update((b"]" if self.num_skipped else b"[]") + b"\n" + canonical_json(self.class_names))
        self.digest: str = digest.hexdigest()
        """Hex sha256 of all that a corpus depends on: the entries, what was skipped, the classes."""

    def __iter__(self) -> Iterator[SourceEntry]:
        return (item for item in self._judged() if isinstance(item, SourceEntry))

    def __len__(self) -> int:
        return self._count

    @property
    def skipped(self) -> Iterator[Skipped]:
        """What is no candidate for a record, by path and reason."""
        judged = (item for item in self._judged() if isinstance(item, Skipped))
        rest = (Skipped(*row) for row in self._rest)
        return heapq.merge(rest, judged, key=lambda item: (item.path, item.reason))

    def _judged(self) -> Iterator[SourceEntry | Skipped]:
        """All images, by path; some of them are none for the sake of the others."""
        before = None
        for entry in map(SourceEntry.from_row, self._images):
            if entry.path == before:
                yield Skipped(entry.path, "duplicate_name", "another member of the shard has this name", entry.checksum)
            elif entry.label is None and self._withholds_unlabelled:
                yield Skipped(entry.path, "no_label", "other images of this source have one", entry.checksum)
            else:
                yield entry
            before = entry.path

    def _without_images(self, origin: str) -> str:
        reasons = Counter(item.reason for item in self.skipped)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "it is empty or missing"
        example = next((f", for example {item.path}" for item in self.skipped), "")
        return f"{origin} has no image that can be used ({why}{example}); images end in .png, .jpg, .webp, …"


class Source(Protocol):
    """A place where raw images are."""

    def list(self, progress: Progress | None = None) -> Listing:
        """All that is there now.

        Raises:
            SourceError: it cannot be reached, or has no image.
        """
        ...

    def read(self, entry: SourceEntry) -> bytes:
        """The bytes of a listed image; safe to call from several threads.

        Raises:
            SourceChanged: they are not what was listed.
        """
        ...


def is_image(path: str) -> bool:
    """Whether the file name claims to be an image."""
    name = path.rpartition("/")[2].lower()
    return not name.startswith(".") and f".{name.rpartition('.')[2]}" in IMAGE_SUFFIXES and "." in name


def content_checksum(data: bytes) -> str:
    """The checksum of content that is at hand."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _ordered(labels: set[str], class_names: Iterable[str] | None) -> list[str]:
    if class_names is not None:
        names = list(class_names)
        assert labels <= set(names), f"labels outside the source's own classes: {sorted(labels - set(names))[:3]}"
        return names
    if all(label.isascii() and label.isdigit() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
