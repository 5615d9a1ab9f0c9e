"""A corpus for its readers: records by number, batches for training, every record once for validation and encoding.

Axes: B batch, C channels, H×W pixels, R records of a split.

Records are numbered within their split in the order of their keys. A record is read by its range of a shard and checked
against the sha256 in the index, so a damaged shard cannot give a wrong image, and no shard is held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Int64, UInt8
from pydantic import TypeAdapter
from torch import Tensor

from datasets.corpus_split import CorpusSplit, Record, Size
from datasets.errors import CorpusError
from datasets.files import Files
from datasets.image_batches import Batch, ImageBatches, ImagePass
from datasets.images import Levels
from datasets.ingest.plan import FORMAT_VERSION
from datasets.ingest.rows import TableNames, read_table, unit_of
from datasets.pair_config import LabelMaps, StoredContent, ValueMaps
from datasets.planes import IMAGES, Planes
from vqgan_core.config import AugmentConfig, PlaneConfig

__all__ = ["IMAGES", "Batch", "Corpus", "ImageBatches", "ImagePass", "LabelMaps", "Record", "Size", "ValueMaps"]

_UNITS_AT_HAND = 4
_PLANES = TypeAdapter(dict[str, StoredContent])


class Corpus:
    """A published corpus, or one in memory."""

    def __init__(self, files: Files) -> None:
        """Read index and classes; no shard is read yet.

        Raises:
            CorpusError: they are damaged, or of a version that this code does not know.
        """
        table, about = _read_index(files)
        self.size_px: int = about["size_px"]
        """Short side of the stored images."""
        self.channels: int = about["channels"]
        """1 grey, 3 RGB."""
        self.crop: str = about["crop"]
        """center: images are square; none: they have their own aspect ratio."""
        self.planes: dict[str, StoredContent] = _PLANES.validate_python(about.get("planes", {}))
        """What is kept beside each image, by name."""
        self.class_names: tuple[str, ...] = tuple(json.loads(files.read("classes.json"))["classes"])
        self._generations: list[dict[str, int]] = about.get("generations", [])
        self._unit_table = lru_cache(_UNITS_AT_HAND)(lambda path: read_table(files.read(path)))
        names = sorted(pc.unique(table["split"]).to_pylist())
        self._splits = {
            name: CorpusSplit(name, table.filter(pc.equal(table["split"], name)), files, self.channels, self.planes)
            for name in names
        }

    @classmethod
    def open(cls, files: Files) -> Corpus:
        """The corpus of an artifact.

        Raises:
            CorpusError: as the constructor.
        """
        return cls(files)

    @property
    def num_classes(self) -> int:
        """0 without labels."""
        return len(self.class_names)

    @property
    def splits(self) -> dict[str, int]:
        """Records of each split that has any."""
        return {name: len(split) for name, split in self._splits.items()}

    def num_records(self, split: str) -> int:
        """Records of a split; 0 for one that is empty."""
        return self.splits.get(split, 0)

    def tables(self) -> dict[str, pa.Table]:
        """The lines of the index by split."""
        return {name: split.table for name, split in self._splits.items()}

    def shards(self, split: str) -> list[str]:
        """Paths of a split's shards, relative to the artifact; none for an empty split."""
        return list(self._splits[split].shards) if split in self._splits else []

    def labels(self, split: str) -> Int64[Tensor, " R"]:
        """Class numbers in key order."""
        return torch.from_numpy(self._split(split).labels.copy())

    def record(self, split: str, number: int) -> Record:
        """What the index says of a record.

        Raises:
            CorpusError: there is no such record.
        """
        return self._split(split).record(number)

    def records(self, split: str, numbers: Iterable[int]) -> list[Record]:
        """What the index says of several records."""
        return [self._split(split).record(int(number)) for number in numbers]

    def shard_records(self, split: str, shard: str) -> list[Record]:
        """What the index says of the records of a shard, in key order: what `sequential(shard=…)` passes.

        Raises:
            CorpusError: there is no such shard.
        """
        return self.records(split, self._split(split).records_of(shard))

    def class_names_of(self, shard: str) -> tuple[str, ...]:
        """The classes that there were when a shard was made; classes of later generations come behind them."""
        before = [g["num_classes"] for g in self._generations if g["first_unit"] <= unit_of(shard)]
        return self.class_names[: before[-1]] if before else self.class_names

    def stored_keys(self, shard: str) -> list[str]:
        """Keys of all that a shard holds, also of what is no record of this corpus: duplicates, and what is gone.

        Raises:
            FileNotFoundError, KeyError: a corpus in memory has no tables of its units.
        """
        folder, separator, name = shard.rpartition("/")
        table = self._unit_table(f"{folder}{separator}{TableNames(unit_of(shard)).records}")
        keys: list[str] = table.filter(pc.equal(table["shard"], name))["key"].to_pylist()
        return keys

    def about(self, split: str, number: int) -> dict[str, Any]:
        """What the record's own JSON says: the class' name, where it came from, and `metadata` of its sidecar.

        Raises:
            CorpusError: there is no such record, or its JSON is damaged.
        """
        return self._split(split).about(number)

    def record_bytes(self, split: str, number: int) -> bytes:
        """The stored image of a record, verified.

        Raises:
            CorpusError: there is no such record, or its bytes are not what was stored.
        """
        return self._split(split).record_bytes(number)

    def image(self, split: str, number: int) -> UInt8[np.ndarray, "H W C"]:
        """The pixels of a record, as stored.

        Raises:
            CorpusError: as `record_bytes`.
        """
        return self._split(split).image(number)

    def plane(self, split: str, number: int, name: str) -> Levels:
        """The numbers of what is kept beside the image of a record, as stored: `H W` labels, or `H W C` values.

        Raises:
            CorpusError: as `record_bytes`, or this corpus keeps no such plane.
        """
        return self._split(split).plane(number, name)

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int,
        size_px: Size | None = None,
        augment: AugmentConfig | None = None,
        planes: Mapping[str, PlaneConfig] = IMAGES,
        cache_bytes: int = 0,
        num_threads: int = 2,
    ) -> ImageBatches:
        """Endless shuffled batches: call the result with the step to start at.

        Args:
            split: which records.
            batch_size: images a batch; more than the split has passes several epochs in one batch.
            seed: names the order and the augmentation.
            size_px: size of the crop; None: the corpus' own.
            augment: random crops and mirroring; None: centre crops.
            planes: what to read of each record, by its name in a batch, all under the same crop and mirroring.
            cache_bytes: decoded images and planes kept between epochs.
            num_threads: threads that read and decode.

        Raises:
            CorpusError: the split is empty, has images smaller than size_px, or lacks a plane.
        """
        rows = self._split(split)
        return ImageBatches(
            Planes(rows, planes, rows.checked_size(size_px or self.size_px), cache_bytes),
            batch_size,
            seed=seed,
            augment=AugmentConfig() if augment is None else augment,
            num_threads=num_threads,
        )

    def sequential(
        self,
        split: str,
        batch_size: int,
        *,
        limit: int | None = None,
        shard: str | None = None,
        size_px: Size | None = None,
        planes: Mapping[str, PlaneConfig] = IMAGES,
        mirrored: bool = False,
        num_threads: int = 2,
    ) -> ImagePass:
        """Every record once, in key order, cropped at the centre; the last batch is short. Iterate it again at will.

        Args:
            split: which records; an empty split gives no batch.
            batch_size: images a batch.
            limit: only the first so many records.
            shard: only the records of this shard.
            size_px: size of the crop; None: the corpus' own.
            planes: what to read of each record, by its name in a batch, all under the same crop and mirroring.
            mirrored: mirror every image left to right.
            num_threads: threads that read and decode.

        Raises:
            CorpusError: there are images smaller than size_px, no such shard, or no such plane.
        """
        rows = self._splits.get(split) if shard is None else self._split(split)
        if rows is None:
            return ImagePass(None, np.zeros(0, np.int64), batch_size, mirrored=mirrored, num_threads=num_threads)
        numbers = np.arange(len(rows)) if shard is None else rows.records_of(shard)
        read = Planes(rows, planes, rows.checked_size(size_px or self.size_px))
        return ImagePass(read, numbers[:limit], batch_size, mirrored=mirrored, num_threads=num_threads)

    def _split(self, name: str) -> CorpusSplit:
        if name not in self._splits:
            raise CorpusError(f"this corpus has no record in split {name!r}; it has {self.splits}")
        return self._splits[name]


def _read_index(files: Files) -> tuple[pa.Table, dict[str, Any]]:
    data = files.read("index.parquet")
    try:
        table = read_table(data)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"the corpus' index.parquet cannot be read: {' '.join(str(error).split())}") from None
    about = json.loads((table.schema.metadata or {}).get(b"tessera.corpus", b"{}"))
    if about.get("format_version") != FORMAT_VERSION:
        raise CorpusError(
            f"index.parquet has corpus format {about.get('format_version')}, this code reads format {FORMAT_VERSION}: "
            "shard again, or use the version that made it"
        )
    return table, about
