"""What a source has: its images, what of it cannot be one and why, and the digest that names its state.

A listing is sorted by path, so that the same source gives the same listing on every machine and file system. Nothing
that a source names is silent: what is no candidate for a record is in `skipped`, with a reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, Protocol

from datasets.errors import SourceError
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

    def identity(self) -> list[Any]:
        """What its record depends on, ready for JSON."""
        partners = [[astuple(partner) for partner in self.partners]] if self.partners else []
        return [self.path, self.bytes, self.checksum, self.label, *partners]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that a source names and that is no candidate for a record."""

    path: str
    reason: str
    """wrong_extension, no_label, not_in_table, no_image: left out by rule. Others (missing_file, …): a fault."""
    detail: str = ""


BY_RULE = frozenset({"wrong_extension", "no_label", "not_in_table", "no_image"})
"""Reasons for leaving something out that are no fault of it: they do not count towards max_bad_fraction."""


class Listing:
    """The sorted entries of a source, the skipped rest, and the order of its classes."""

    def __init__(
        self,
        entries: Iterable[SourceEntry],
        skipped: Iterable[Skipped] = (),
        class_names: Iterable[str] | None = None,
    ) -> None:
        """Sort and check the entries.

        Args:
            entries: images in any order, paths unique.
            skipped: the rest, in any order.
            class_names: the classes in the source's own order; None: the labels that occur, numbers in numeric order.
        """
        self._entries = sorted(entries, key=lambda entry: entry.path)
        self.skipped = tuple(sorted(skipped, key=lambda item: (item.path, item.reason)))
        self._withhold_unlabelled()
        self.class_names = tuple(_ordered({e.label for e in self if e.label is not None}, class_names))

    def __iter__(self) -> Iterator[SourceEntry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of all that a corpus depends on: the entries, what was skipped, the classes."""
        digest = hashlib.sha256()
        for entry in self:
            digest.update(canonical_json(entry.identity()) + b"\n")
        digest.update(canonical_json([[item.path, item.reason, item.detail] for item in self.skipped]) + b"\n")
        digest.update(canonical_json(self.class_names))
        return digest.hexdigest()

    def require_images(self, origin: str) -> Listing:
        """Return self, or say in one line that and why there is nothing to use.

        Raises:
            SourceError: no entry.
        """
        if self._entries:
            return self
        reasons = Counter(item.reason for item in self.skipped)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "it is empty or missing"
        example = f", for example {self.skipped[0].path}" if self.skipped else ""
        raise SourceError(
            f"{origin} has no image that can be used ({why}{example}); images end in .png, .jpg, .webp, …"
        )

    def _withhold_unlabelled(self) -> None:
        """Where some images have a label, those without are skipped: no class may be made up for them."""
        without = [entry for entry in self._entries if entry.label is None]
        if without and len(without) < len(self._entries):
            self._entries = [entry for entry in self._entries if entry.label is not None]
            added = (Skipped(entry.path, "no_label", "other images of this source have one") for entry in without)
            self.skipped = tuple(sorted((*self.skipped, *added), key=lambda item: (item.path, item.reason)))


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
