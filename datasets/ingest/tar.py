"""Tar files: a deterministic writer, and a reader that notices every damage.

Source: POSIX.1-1988 *ustar* interchange format; the pax and GNU long-name headers are read, never written.

Why our own: `tarfile` writes times and pax headers (the same records give other bytes, twice the size for small
images), and both it and WebDataset end silently at a corrupt header or a cut at a member's border, losing the rest of
a shard. Here a header's checksum, a member's length and the end marker are checked, and damage raises with its offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["BLOCK", "Member", "TarDamaged", "member_size", "read_tar", "write_tar"]

BLOCK = 512
_END = bytes(2 * BLOCK)
_MAX_NAME = 100
_MAX_EXTENSION_BYTES = 1 << 20  # a longer pax or long-name header is an attack, not a name
_CHUNK = 1 << 20
_REGULAR = (b"0", b"\0", b"7")


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar and where its content lies."""

    name: str
    offset: int
    size: int
    regular: bool = True
    """False: a link, device or the like; it has no content."""


class TarDamaged(Exception):
    """A tar that cannot be read on from `offset`; what was yielded before is good."""

    def __init__(self, offset: int, problem: str) -> None:
        """Say what is wrong at which byte."""
        super().__init__(offset, problem)
        self.offset = offset
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem} at byte {self.offset}"


def write_tar(members: Iterable[tuple[str, bytes]]) -> tuple[bytes, list[Member]]:
    """Pack members in the given order: the same members give the same bytes, everywhere and always.

    Returns:
        The tar and, for each member, where its content lies in it.
    """
    archive, index = bytearray(), []
    for name, data in members:
        archive += _header(name, len(data))
        index.append(Member(name, len(archive), len(data)))
        archive += data
        archive += bytes(-len(data) % BLOCK)
    archive += _END
    return bytes(archive), index


def read_tar(stream: BinaryIO) -> Iterator[tuple[Member, bytes]]:
    """Yield members with their content, in order, reading the stream once.

    Raises:
        TarDamaged: a header, a member or the end is not as it must be.
    """
    reader = _Reader(stream)
    overrides: dict[str, str] = {}
    while (header := reader.header()) is not None:
        kind, name, size = header
        if kind in (b"x", b"L"):
            overrides |= _extension(kind, reader.content(size, _MAX_EXTENSION_BYTES), reader.position)
            continue
        if kind in (b"g", b"K"):
            reader.content(size, _MAX_EXTENSION_BYTES)
            continue
        name = overrides.get("path", name)
        regular = kind in _REGULAR
        size = int(overrides.get("size", size)) if regular else 0
        overrides = {}
        offset = reader.position
        data = reader.content(size)
        if kind != b"5":
            yield Member(name, offset, size, regular), data
    reader.expect_nothing_more()


def member_size(header: bytes) -> int:
    """Bytes of the member whose header this is.

    Raises:
        TarDamaged: it is no header.
    """
    if len(header) < BLOCK or not _checksum_fits(header):
        raise TarDamaged(0, "a header is corrupt")
    return _number(header[124:136])


class _Reader:
    """A stream with its position, read in whole blocks."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.position = 0

    def header(self) -> tuple[bytes, str, int] | None:
        """Kind, name and size of the next member; None at the end marker."""
        start = self.position
        block = self._take(BLOCK)
        if not block:
            raise TarDamaged(start, "the end marker is missing")
        if len(block) < BLOCK:
            raise TarDamaged(start, "a header is cut off")
        if not any(block):
            return None
        if not _checksum_fits(block):
            raise TarDamaged(start, "a header is corrupt")
        try:
            name = _text(block[:100])
            if block[257:262] == b"ustar" and block[263:265] == b"00" and (prefix := _text(block[345:500])):
                name = f"{prefix}/{name}"
            return block[156:157], name, _number(block[124:136])
        except ValueError:
            raise TarDamaged(start, "a header is corrupt") from None

    def content(self, size: int, limit: int | None = None) -> bytes:
        """The content of a member, without its padding."""
        start = self.position
        if limit is not None and size > limit:
            raise TarDamaged(start, f"a name of {size} bytes")
        data = self._take(size)
        if len(data) < size or len(self._take(-size % BLOCK)) < -size % BLOCK:
            raise TarDamaged(start, "a member is cut off")
        return data

    def expect_nothing_more(self) -> None:
        """Refuse data behind the end marker: other readers would lose it silently."""
        while chunk := self._take(_CHUNK):
            if any(chunk):
                raise TarDamaged(self.position - len(chunk), "there is data behind the end marker")

    def _take(self, size: int) -> bytes:
        parts, missing = [], size
        while missing and (part := self._stream.read(min(missing, 64 * _CHUNK))):
            parts.append(part)
            missing -= len(part)
        self.position += size - missing
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _header(name: str, size: int) -> bytes:
    encoded = name.encode("ascii")
    assert 0 < len(encoded) <= _MAX_NAME, f"member names are 1 to {_MAX_NAME} ASCII characters, got {name!r}"
    assert size < 8**11, "a ustar member is smaller than 8 GiB"
    fields = (
        encoded.ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0" * 2,  # owner, group
        f"{size:011o}\0".encode(),
        b"00000000000\0",  # time
        b" " * 8,  # checksum, counted as spaces
        b"0",
        bytes(100),  # link
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + f"{sum(block):06o}\0 ".encode() + block[156:]


def _checksum_fits(block: bytes) -> bool:
    counted = block[:148] + b" " * 8 + block[156:]
    signed = sum(counted) - 256 * sum(byte > 127 for byte in counted)  # what some old writers stored
    try:
        return _number(block[148:156]) in (sum(counted), signed)
    except ValueError:
        return False


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.split(b"\0", 1)[0].strip() or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _extension(kind: bytes, data: bytes, position: int) -> dict[str, str]:
    if kind == b"L":
        return {"path": _text(data)}
    fields: dict[str, str] = {}
    while data:
        try:
            length = int(data.split(b" ", 1)[0])
            key, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        except (ValueError, IndexError):
            length, key, value = 0, b"", b""
        if length <= 0 or (key == b"size" and not value.isdigit()):
            raise TarDamaged(position, "a pax header is corrupt")
        fields[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    return fields
