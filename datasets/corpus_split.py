"""One split of a corpus: its rows as columns, and its records by number.

Axes: C channels, H×W pixels, R records of the split, r of one shard. Records are numbered in the order of their keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt8, UInt64

from datasets.errors import CorpusError
from datasets.files import Files, read_member
from datasets.images import Levels, decode, decode_levels
from datasets.ingest.tar import BLOCK, TarDamaged, member_size
from datasets.pair_config import StoredContent

__all__ = ["CorpusSplit", "Record", "Size", "read_about"]

Size = int | tuple[int, int]
"""Height and width of a batch's images; one number is both."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the index says of a record."""

    key: str
    label: int
    """Class number, -1 without classes."""
    width: int
    height: int
    shard: str
    source_path: str
    source_sha256: str


class CorpusSplit:
    """Records of one split; never empty."""

    def __init__(
        self, name: str, table: pa.Table, files: Files, channels: int, planes: Mapping[str, StoredContent]
    ) -> None:
        """Take the split's rows of the index, in key order."""
        self.name = name
        self.planes = planes
        """What is kept beside each image, by name."""
        self._heights: Int64[np.ndarray, " R"] = table["height"].to_numpy()
        self._widths: Int64[np.ndarray, " R"] = table["width"].to_numpy()
        self.table, self._files, self._channels = table, files, channels
        self.labels: Int64[np.ndarray, " R"] = table["label"].to_numpy()
        # By their own names: in which folder a store keeps them must not change the order of records.
        paths = pc.unique(table["shard"]).to_pylist()
        self.shards: list[str] = sorted(paths, key=lambda path: (path.rpartition("/")[2], path))
        number = {shard: i for i, shard in enumerate(self.shards)}
        shard = np.array([number[name] for name in table["shard"].to_pylist()], np.int64)
        self.by_shard: Int64[np.ndarray, " R"] = np.argsort(shard, kind="stable")
        """Record numbers, shard after shard: the joined list that an Order permutes."""
        self.counts: list[int] = np.bincount(shard, minlength=len(self.shards)).tolist()
        """Records of each shard."""
        heads = [int(key[:16], 16) for key in table["key"].to_pylist()]
        self.key_words: UInt64[np.ndarray, " R"] = np.array(heads, np.uint64)
        """The first 64 bits of each key: the record's name in random streams."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def records_of(self, shard: str) -> Int64[np.ndarray, " r"]:
        """Numbers of the records of a shard, in key order.

        Raises:
            CorpusError: the split has no such shard.
        """
        if shard not in self.shards:
            raise CorpusError(f"split {self.name!r} has no shard {shard}; it has {len(self.shards)}")
        number = self.shards.index(shard)
        start = sum(self.counts[:number])
        return self.by_shard[start : start + self.counts[number]]

    def record(self, number: int) -> Record:
        """What the index says of a record.

        Raises:
            CorpusError: there is no such record.
        """
        row = self._row(number)
        return Record(**{name: row[name] for name in Record.__slots__})

    def record_bytes(self, number: int) -> bytes:
        """The stored image of a record, verified.

        Raises:
            CorpusError: there is no such record, or its bytes are not what was stored.
        """
        row = self._row(number)
        return read_member(self._files, row["shard"], row)

    def plane_bytes(self, number: int, name: str) -> bytes:
        """The PNG of what is kept beside the image of a record, verified.

        Raises:
            CorpusError: there is no such record or plane, or its bytes are not what was stored.
        """
        row = self._row(number)
        self.require_plane(name)
        return read_member(self._files, row["shard"], next(plane for plane in row["planes"] if plane["name"] == name))

    def require_plane(self, name: str) -> None:
        """Say in one line that a plane is not kept here.

        Raises:
            CorpusError: it is not.
        """
        if name not in self.planes:
            there = ", ".join(self.planes) or "nothing"
            raise CorpusError(
                f"this corpus keeps no plane {name!r} beside its images; it keeps {there}: shard it with pairs.{name}"
            )

    def about(self, number: int) -> dict[str, Any]:
        """What the record's own JSON says, which stands behind its image and its planes.

        Raises:
            CorpusError: there is no such record, or its JSON is damaged.
        """
        return read_about(self._files, self._row(number))

    def image(self, number: int) -> UInt8[np.ndarray, "H W C"]:
        """The pixels of a record, as stored.

        Raises:
            CorpusError: as `record_bytes`.
        """
        return decode(self.record_bytes(number), self._channels)

    def plane(self, number: int, name: str) -> Levels:
        """The numbers of a stored plane, as stored: `H W` labels, or `H W C` values.

        Raises:
            CorpusError: as `plane_bytes`.
        """
        return decode_levels(self.plane_bytes(number, name), self.planes[name])

    def shape(self, number: int) -> tuple[int, int]:
        """Height and width of a record, without its pixels."""
        return int(self._heights[number]), int(self._widths[number])

    def checked_size(self, wanted: Size) -> tuple[int, int]:
        """Height and width of crops that every image of the split can give.

        Raises:
            CorpusError: some image is smaller.
        """
        size = (wanted, wanted) if isinstance(wanted, int) else wanted
        if min(size) < 1:
            raise CorpusError(f"images have at least one pixel, got size {size[0]}×{size[1]}")
        smallest = (pc.min(self.table["height"]).as_py(), pc.min(self.table["width"]).as_py())
        if size[0] > smallest[0] or size[1] > smallest[1]:
            raise CorpusError(
                f"images of {size[0]}×{size[1]} are asked of a corpus whose smallest is {smallest[0]} high and "
                f"{smallest[1]} wide; shard it with size_px {max(size)} or ask for less"
            )
        return size

    def _row(self, number: int) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise CorpusError(f"no record {number} in split {self.name!r}: it has {len(self)}")
        row: dict[str, Any] = self.table.slice(number, 1).to_pylist()[0]
        return row


def read_about(files: Files, row: Mapping[str, Any]) -> dict[str, Any]:
    """A record's own JSON, which stands in its shard behind its image and its planes.

    Raises:
        CorpusError: it is damaged.
    """
    end = max(member["offset"] + member["bytes"] for member in (row, *(row.get("planes") or ())))
    start = end + -end % BLOCK
    try:
        size = member_size(files.read_range(row["shard"], start, start + BLOCK))
        found: dict[str, Any] = json.loads(files.read_range(row["shard"], start + BLOCK, start + BLOCK + size))
    except (TarDamaged, ValueError):
        found = {}
    if found.get("source_sha256", "")[:32] != row["key"]:
        raise CorpusError(f"the JSON of record {row['key']} in {row['shard']} is damaged, at byte {start}")
    return found
