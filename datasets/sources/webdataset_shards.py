"""WebDataset shards that others made: consecutive members with one stem are a sample, `stem.field` its parts.

Format: T. Breuel, WebDataset; a name is cut at the first dot of its last component. Read by our own tar reader, which
names a damaged shard where WebDataset's ends silently. Departures: a sample that a damage may have cut is left out and
counted; compressed tars are refused, because a record is read back by its offset.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from datasets.config import WebDatasetSource
from datasets.errors import SourceError
from datasets.ingest.tar import Member, TarDamaged, read_tar
from datasets.sources.filesystem import Remote
from datasets.sources.listing import Listing, Progress, Skipped, SourceEntry, content_checksum

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WebDatasetShards", "expand_braces"]

_MAX_SHARDS = 1_000_000
_Part = tuple[Member, bytes]


class WebDatasetShards:
    """The source of kind webdataset; an entry's path is `shard/member`."""

    def __init__(self, config: WebDatasetSource) -> None:
        """Expand the shard names; nothing is read yet.

        Raises:
            SourceError: a name is refused.
        """
        self._config = config
        self._urls = [url for pattern in config.urls for url in expand_braces(pattern)]
        for url in self._urls:
            if url.lower().endswith((".gz", ".tgz", ".bz2", ".xz", ".zst")):
                raise SourceError(f"{url}: compressed tars cannot be read by offset; unpack them to .tar")
        self._open = cache(lambda url: Remote(url, config.endpoint_url))
        self._open(self._urls[0])

    def list(self, progress: Progress | None = None) -> Listing:
        """All samples of all shards; every shard is read once.

        Raises:
            SourceError: a shard cannot be reached, or there is no image.
        """
        return Listing(self._items(progress), origin=", ".join(self._config.urls))

    def read(self, entry: SourceEntry) -> bytes:
        """The bytes of a listed image.

        Raises:
            SourceChanged: they are not what was listed.
        """
        assert entry.location is not None, f"{entry.path} was not listed by this kind of source"
        url, offset = entry.location
        return self._open(url).read(entry, offset=offset)

    def _items(self, progress: Progress | None) -> Iterator[SourceEntry | Skipped]:
        for done, url in enumerate(self._urls, start=1):
            yield from self._scan(url)
            if progress is not None:
                progress(done, len(self._urls))

    def _scan(self, url: str) -> Iterator[SourceEntry | Skipped]:
        remote = self._open(url)
        with remote.explained("read"), remote.open() as stream:
            sample: list[_Part] = []
            stem = None
            try:
                for part in read_tar(stream):
                    next_stem = _split(part[0].name)[0]
                    if next_stem != stem and sample:
                        yield from self._entries(url, sample)
                        sample = []
                    stem = next_stem
                    sample.append(part)
            except TarDamaged as damage:
                lost = f"; the sample {stem} before it is left out" if sample else ""
                yield Skipped(url, "damaged_shard", f"{damage}, nothing behind it is read{lost}")
                return
            if sample:
                yield from self._entries(url, sample)

    def _entries(self, url: str, sample: Sequence[_Part]) -> Iterator[SourceEntry | Skipped]:
        """The image of a sample, or why there is none."""
        stem = _split(sample[0][0].name)[0]
        printable = f"{url}/{stem}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        fields: dict[str, _Part] = {}
        for member, data in sample:
            field = _split(member.name)[1]
            if not member.regular:
                yield Skipped(f"{printable}.{field}", "unreadable", "it is no regular file")
            elif field in fields:
                why = "another member of the shard has this name"
                yield Skipped(f"{printable}.{field}", "duplicate_name", why, content_checksum(data))
            else:
                fields[field] = (member, data)
        image = next((fields[name] for name in self._config.image_fields if name in fields), None)
        if image is None:
            if fields:
                names = ", ".join(sorted(fields))
                yield Skipped(printable, "no_image_field", f"has {names}; looked for {self._config.image_fields}")
            return
        member, data = image
        try:
            label = self._label(fields)
        except ValueError as error:
            yield Skipped(printable, "unreadable", f"its label: {error}", content_checksum(data))
            return
        path = f"{printable}.{_split(member.name)[1]}"
        yield SourceEntry(path, member.size, content_checksum(data), label, (url, member.offset))

    def _label(self, fields: dict[str, _Part]) -> str | None:
        wanted = self._config.label_field
        if wanted is None:
            return None
        if wanted in fields:
            return fields[wanted][1].decode("utf-8").strip() or None
        if "json" in fields:
            value = json.loads(fields["json"][1])
            found = value.get(wanted) if isinstance(value, dict) else None
            if isinstance(found, (dict, list)):
                raise ValueError(f"{wanted} in its json is a {type(found).__name__}")
            return None if found in (None, "") else str(found)
        return None


def expand_braces(pattern: str) -> list[str]:
    """Expand `{000..123}` and `{a,b}`, any number of them, not nested.

    Raises:
        SourceError: a brace is not closed or nested, or the pattern names over a million shards.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    if any(brace in text for text in parts[::2] for brace in "{}"):
        raise SourceError(f"{pattern}: braces are {{000..123}} or {{a,b}}, not nested")
    choices = [[part] if i % 2 == 0 else _choices(part, pattern) for i, part in enumerate(parts)]
    total = 1
    for options in choices:
        total *= len(options)
    if total > _MAX_SHARDS:
        raise SourceError(f"{pattern} names {total} shards, at most {_MAX_SHARDS} are allowed")
    return ["".join(combination) for combination in itertools.product(*choices)]


def _choices(text: str, pattern: str) -> list[str]:
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if bounds is None:
        if "," not in text:
            raise SourceError(f"{pattern}: {{{text}}} is neither a range (000..123) nor a list (a,b)")
        return text.split(",")
    first, last = int(bounds[1]), int(bounds[2])
    if last < first or last - first >= _MAX_SHARDS:
        raise SourceError(f"{pattern}: the range {{{text}}} is empty or names over {_MAX_SHARDS} shards")
    return [f"{number:0{len(bounds[1])}d}" for number in range(first, last + 1)]


def _split(name: str) -> tuple[str, str]:
    folder, separator, base = name.rpartition("/")
    stem, _, field = base.partition(".")
    return folder + separator + stem, field.lower()
