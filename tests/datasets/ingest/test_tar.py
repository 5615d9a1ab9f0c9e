"""Contract: the same members give the same bytes, other readers read them, and every damage is noticed."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.ingest.tar import BLOCK, Member, TarDamaged, read_tar, write_tar

MEMBERS = [("a.png", b"x" * 1000), ("a.json", b"{}"), ("b.png", b""), ("c/d.txt", bytes(512))]


def read_all(data: bytes) -> list[tuple[Member, bytes]]:
    return list(read_tar(io.BytesIO(data)))


def test_round_trip_with_offsets() -> None:
    archive, index = write_tar(MEMBERS)
    assert [(member.name, data) for member, data in read_all(archive)] == MEMBERS
    assert [member for member, _ in read_all(archive)] == index
    assert [archive[m.offset : m.offset + m.size] for m in index] == [data for _, data in MEMBERS]


def test_the_bytes_hold_no_time_owner_or_pax_header() -> None:
    archive, _ = write_tar(MEMBERS)
    assert len(archive) == sum(BLOCK + -(-len(data) // BLOCK) * BLOCK for _, data in MEMBERS) + 2 * BLOCK
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        infos = tar.getmembers()
        assert {(i.mtime, i.uid, i.gid, i.uname, i.mode) for i in infos} == {(0, 0, 0, "", 0o644)}
        assert [(i.name, tar.extractfile(i).read()) for i in infos] == MEMBERS  # type: ignore[union-attr] # regular


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_damage_goes_unnoticed(data: st.DataObject) -> None:
    archive, index = write_tar(MEMBERS)
    contents = {offset for m in index for offset in range(m.offset, m.offset + m.size)}
    # Not the end of the checksum field: what follows its NUL means nothing, and everything still reads as written.
    headers = [m.offset - BLOCK + i for m in index for i in range(BLOCK) if i != 155]
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(archive) - 2 * BLOCK))  # also exactly at a border between members
        broken = archive[:cut]
    else:
        place = data.draw(st.sampled_from([h for h in headers if h not in contents]))
        broken = bytearray(archive)
        broken[place] ^= 1 << data.draw(st.integers(0, 7))
        broken = bytes(broken)
    reader, good = read_tar(io.BytesIO(broken)), []
    with pytest.raises(TarDamaged):
        good.extend((member.name, content) for member, content in iter(reader))
    assert good == MEMBERS[: len(good)]


def test_data_behind_the_end_marker_is_damage() -> None:
    archive, _ = write_tar(MEMBERS)
    with pytest.raises(TarDamaged, match="behind the end marker"):
        read_all(archive + archive)
    assert len(read_all(archive + bytes(10240))) == len(MEMBERS)  # the usual padding to 20 blocks


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tars_of_others_are_read(format_: int) -> None:
    long = "folder/" * (12 if format_ == tarfile.USTAR_FORMAT else 40) + "name.jpg"
    unicode = "ü.jpg"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for name in (long, unicode):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 5, 1_700_000_000.5 if format_ == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(b"hello"))
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    members = read_all(buffer.getvalue())
    assert [(m.name, d) for m, d in members[:2]] == [(long, b"hello"), (unicode, b"hello")]
    assert members[2] == (Member("link.jpg", members[2][0].offset, 0, regular=False), b"")
    assert len(members) == 3  # folders are no members


def test_a_name_that_a_tar_cannot_hold_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="1 to 100 ASCII"):
        write_tar([("x" * 101, b"")])


def test_random_bytes_and_an_empty_file_are_damage() -> None:
    for data in (b"", b"not a tar" * 200):
        with pytest.raises(TarDamaged, match="at byte 0"):
            read_all(data)
