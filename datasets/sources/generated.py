"""Sources whose images come from a library instead of files: each is handed out as lossless PNG."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Protocol

from PIL import Image

from datasets.errors import SourceChanged
from datasets.sources.listing import Listing, Progress, SourceEntry, content_checksum

__all__ = ["GeneratedSource", "ImageSequence"]


class ImageSequence(Protocol):
    """What a library has to offer."""

    @property
    def class_names(self) -> Sequence[str] | None:
        """Classes in the library's order; None where it has no names for them."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """Image `index`."""
        ...

    def label(self, index: int) -> str | None:
        """Label of image `index`."""
        ...


class GeneratedSource:
    """A source over an image sequence; entry `00000042.png` is image 42."""

    def __init__(self, images: ImageSequence, origin: str) -> None:
        """Wrap a sequence; `origin` names it in messages.

        Threads may read at once. Libraries need not bear that: they seek in one file, or draw from one generator.
        """
        self._images = images
        self._origin = origin
        self._one_at_a_time = threading.Lock()

    def list(self, progress: Progress | None = None) -> Listing:
        """All images, each with the hash of its PNG.

        Raises:
            SourceError: there is none.
        """
        return Listing(self._entries(progress), self._images.class_names, origin=self._origin)

    def read(self, entry: SourceEntry) -> bytes:
        """The PNG of a listed image.

        Raises:
            SourceChanged: the library now gives another image.
        """
        data = self._png(int(PurePosixPath(entry.path).stem))
        if content_checksum(data) != entry.checksum:
            raise SourceChanged(
                f"{entry.path} of {self._origin} changed since it was listed: run again to list it anew"
            )
        return data

    def _entries(self, progress: Progress | None) -> Iterator[SourceEntry]:
        for index in range(len(self._images)):
            data = self._png(index)
            path = f"{index:08d}.png"
            yield SourceEntry(path, len(data), content_checksum(data), self._images.label(index))
            if progress is not None:
                progress(index + 1, len(self._images))

    def _png(self, index: int) -> bytes:
        buffer = io.BytesIO()
        with self._one_at_a_time:
            image = self._images.image(index)
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
