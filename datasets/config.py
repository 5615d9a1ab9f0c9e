"""Configs of the data layer: where a store is, where images come from, how they become a corpus."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from datasets.pair_config import FilesPair, PairConfig, PairName
from vqgan_core.config import Config, ExecutionConfig, FanOutConfig
from vqgan_core.config.base import LATER


class StoreConfig(ExecutionConfig):
    """Where artifacts live. It says *where*, so it never enters a fingerprint; secrets come from the environment."""

    url: str = "./store"
    """fsspec URL of the root: a path, file://, memory:// or s3://bucket/prefix."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server; null: AWS_ENDPOINT_URL or AWS itself."""


class DigitsSource(Config):
    """scikit-learn's 1,797 handwritten digits, 8×8 grey, which ship inside its wheel."""

    kind: Literal["digits"] = "digits"


class FolderSource(Config):
    """Images below a folder or prefix of any fsspec file system."""

    kind: Literal["folder"] = "folder"
    url: str = Field(min_length=1)
    """Folder or prefix; every file with an image suffix below it is a record."""
    labels: str | None = None
    """Table of labels: URL of a .csv, .jsonl or .parquet with a path column (relative to url) and a label column; null:
    the name of the first sub-folder is the label."""
    path_column: str = "path"
    """Column of the table that holds the relative path."""
    label_column: str = "label"
    """Column of the table, or field of a sidecar, that holds the label."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server, if the source is on another one than the store."""
    sidecars: Annotated[bool, LATER] = False
    """Each image NAME.jpg has a NAME.json beside it: its field label_column is the label, its other fields are kept in
    the record's own JSON as `metadata`. Each listing reads all of them."""

    @model_validator(mode="after")
    def _labels_come_from_one_place(self) -> FolderSource:
        if self.sidecars and self.labels is not None:
            raise ValueError("labels come from sidecars or from a table, not from both: leave out one")
        return self


class TorchvisionSource(Config):
    """A torchvision data set by class name, for example CIFAR10; downloaded where there is network."""

    kind: Literal["torchvision"] = "torchvision"
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    """Class in torchvision.datasets; FakeData works without network."""
    root: str = "./torchvision"
    """Folder of the downloaded files."""
    split: str | None = None
    """Passed as split=, or as train= for data sets that have that; null: the data set's default."""
    download: bool = True
    """Fetch missing files."""


class WebDatasetSource(Config):
    """WebDataset shards that others made."""

    kind: Literal["webdataset"] = "webdataset"
    urls: tuple[str, ...] = Field(min_length=1)
    """Shards; {000..123} ranges are expanded."""
    image_fields: tuple[str, ...] = ("jpg", "jpeg", "png", "webp")
    """Extensions that hold the image, first match wins."""
    label_field: str | None = "cls"
    """Extension that holds the label as text, or the key of a .json field; null: no labels."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server, if the source is on another one than the store."""


SourceConfig = Annotated[
    DigitsSource | FolderSource | TorchvisionSource | WebDatasetSource, Field(discriminator="kind")
]


class ImportTokensExecution(ExecutionConfig):
    """Where foreign tokens are: what they are is known by their content."""

    url: str = ""
    """Parquet file, folder or prefix of such, or folder of a token artifact in another store."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server, if they are on another one than the store."""


class ImportTokensConfig(Config):
    """Tokens that were made elsewhere: what their Parquet files do not say themselves, and where they are."""

    codebook_size: int | None = Field(None, ge=2, le=2**24)
    """K: indices are below it. null: the files say it."""
    grid: tuple[int, int] | None = None
    """Rows and columns. null: the files say it, or rows of indices are nested in rows of a grid."""
    factor: int | None = Field(None, ge=1)
    """f: pixels of an image's side for each of the grid's; null: the files say it, or 1."""
    tokenizer_digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Digest of the published tokenizer that made the tokens, if there is one; samples cannot be decoded without."""
    class_names: tuple[str, ...] | None = None
    """Names of the class numbers; null: the labels that occur."""
    indices_column: str = "indices"
    """Column of lists of integers, row by row."""
    label_column: str = "label"
    """Column of class numbers (-1: none) or names; not there: no classes."""
    key_column: str = "key"
    """Column of names of records; not there: file and row."""
    split_column: str = "split"
    """Column of train, val or validation; not there: validation_fraction decides."""
    validation_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of records, chosen by hash of their key, that no training sees."""
    execution: ImportTokensExecution = ImportTokensExecution()
    """Where they are; not part of the fingerprint."""

    def at(self, url: str) -> ImportTokensConfig:
        """The same of tokens at another place."""
        return self.model_copy(update={"execution": self.execution.model_copy(update={"url": url})})

    @field_validator("grid")
    @classmethod
    def _grid_has_cells(cls, grid: tuple[int, int] | None) -> tuple[int, int] | None:
        if grid is not None and min(grid) < 1:
            raise ValueError("both sides are at least 1")
        return grid


class NearDuplicates(Config):
    """Images that look alike, by a perceptual hash of 64 bits: of near ones, one is kept."""

    hash: Literal["phash", "dhash"] = "phash"
    """phash compares low frequencies, dhash neighbouring pixels: less exact, and ten times as fast."""
    max_distance: int = Field(4, ge=0, le=8)
    """Bits in which near images differ at most; 0 finds little more than the same picture in other files."""


class ShardExecution(ExecutionConfig):
    """How sharding runs."""

    num_processes: int | None = Field(None, ge=1)
    """Child processes that decode, for each unit that is worked on; null: one a core, with fan_out one."""
    decode_timeout_seconds: float = Field(60.0, gt=0)
    """An image that takes longer is quarantined."""
    fan_out: FanOutConfig = FanOutConfig()
    """Where units are worked on at the same time."""


class ShardConfig(Config):
    """Recipe and execution of the shard stage."""

    source: SourceConfig = DigitsSource()
    """Where images come from."""
    size_px: int = Field(256, ge=1, le=16384)
    """Short side after resizing; with crop center, height and width."""
    crop: Literal["center", "none"] = "center"
    """Crop to a square, or keep the aspect ratio (training then crops, at random if told)."""
    channels: Literal[1, 3] = 3
    """1 stores grey images, 3 RGB."""
    resample: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    """Pillow's filter, antialiased when shrinking."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB on which transparent images are laid."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """How records are stored; png and webp are lossless."""
    jpeg_quality: int = Field(95, ge=1, le=100)
    """Quality of format jpeg, without chroma subsampling."""
    validation_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of images, chosen by hash of their content, that no training sees."""
    images_per_shard: int = Field(2000, ge=1)
    """Source images a unit of work; a unit becomes one shard of each split."""
    min_size_px: int = Field(8, ge=1)
    """Images with a shorter side are quarantined."""
    max_aspect_ratio: float = Field(20.0, ge=1)
    """Images that are longer than this times their short side are quarantined."""
    max_pixels: int = Field(64_000_000, ge=1)
    """Larger images are quarantined before they are decoded."""
    max_bad_fraction: float = Field(0.5, ge=0, le=1)
    """The stage fails if a larger share of the source cannot be used."""
    parent: Annotated[str | None, LATER] = "auto"
    """Corpus to grow from: only images that it lacks are read, its shards stay. auto: the newest of this source and
    recipe, if there is one; a fingerprint; null: make the whole corpus anew."""
    pairs: Annotated[dict[PairName, PairConfig], LATER] = Field(default_factory=dict)
    """What is kept beside each image, by name: label maps, depth maps, …"""
    near_duplicates: Annotated[NearDuplicates | None, LATER] = None
    """Leave out images that look like one that is kept; null: only files of the same bytes are duplicates."""
    execution: ShardExecution = ShardExecution()
    """How it runs; not part of the fingerprint."""

    @model_validator(mode="after")
    def _second_files_are_beside_files(self) -> ShardConfig:
        for name, pair in self.pairs.items():
            if isinstance(pair, FilesPair) and not isinstance(self.source, FolderSource):
                raise ValueError(
                    f"pairs.{name} of kind files needs a source of kind folder, got {self.source.kind}: unpack the "
                    "source into files"
                )
        return self

    @model_validator(mode="after")
    def _size_is_not_below_the_minimum(self) -> ShardConfig:
        if self.size_px < self.min_size_px:
            raise ValueError(f"size_px {self.size_px} is below min_size_px {self.min_size_px}")
        return self
