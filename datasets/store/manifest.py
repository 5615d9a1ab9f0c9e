"""What is written about an artifact: the manifest, the last object of a publication. No manifest, no artifact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from datasets.store.errors import ArtifactTooNew, CorruptObject
from datasets.store.fingerprint import digest_of, sha256
from datasets.store.names import artifact_folder, check_file, check_kind, check_name
from vqgan_core.config import Config, sha256_json

__all__ = [
    "SCHEMA_VERSION",
    "ArtifactRef",
    "Cost",
    "FileEntry",
    "InputRef",
    "Manifest",
    "describe",
    "to_json",
    "with_checksum",
    "without_checksum",
]

SCHEMA_VERSION = 1
_CHECKSUM = "checksum"

Kind = Annotated[str, AfterValidator(check_kind)]
Name = Annotated[str, AfterValidator(check_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Config):
    """A file of an artifact or part."""

    path: Annotated[str, AfterValidator(check_file)]
    """Relative to the folder of the manifest; files of shared parts are at ../../parts/<kind>/<key>/<name>."""
    bytes: int = Field(ge=0)
    """Size."""
    sha256: Sha256
    """Hex digest of the content."""


class InputRef(Config):
    """An artifact that another was made from."""

    kind: Kind
    """Its kind."""
    fingerprint: Name
    """What was asked for."""
    digest: Sha256
    """What came out; together with kind and fingerprint it names one set of bytes for ever."""


class ArtifactRef(InputRef):
    """A published artifact, and where it is: what a stage returns and the next one takes."""

    uri: str
    """URL of its folder."""

    def as_input(self) -> InputRef:
        """The part that enters a manifest: where it was read from does not matter."""
        return InputRef(kind=self.kind, fingerprint=self.fingerprint, digest=self.digest)


class Cost(Config):
    """What making an artifact took, over all runs that worked on it where the stage knows."""

    seconds: float = Field(0.0, ge=0)
    """Wall-clock time."""
    device_seconds: float = Field(0.0, ge=0)
    """Time on accelerators."""
    bytes_read: int = Field(0, ge=0)
    """Read from the store."""
    bytes_written: int = Field(0, ge=0)
    """Written to the store."""


class Manifest(BaseModel):
    """Everything about an artifact; stored as manifest.json in its folder."""

    model_config = Config.model_config  # no Config itself: that one's recipe() and this one's recipe would collide

    schema_version: int = Field(SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    """Form of this file."""
    kind: Kind
    """corpus, tokenizer, tokens, prior, samples, evaluation, …"""
    fingerprint: Name
    """What was asked for."""
    digest: Sha256
    """What came out: sha256 of the list of files."""
    stage: str
    """Which stage made it."""
    stage_version: int | str
    """The stage's own version."""
    recipe: dict[str, Any]
    """Validated config, without its execution half."""
    inputs: list[InputRef]
    """What it was made from: the lineage."""
    files: list[FileEntry]
    """Its content, sorted by path."""
    views: list[FileEntry] = Field(default_factory=list)
    """Pages for people that hold times and the like: checked, but not part of the digest."""
    summary: dict[str, Any] = Field(default_factory=dict)
    """Counts and metrics."""
    environment: dict[str, Any] = Field(default_factory=dict)
    """Package versions, commit, device."""
    created: str
    """UTC time of publication, ISO 8601."""
    cost: Cost = Cost()
    """What it took."""

    @model_validator(mode="after")
    def _digest_is_that_of_the_files(self) -> Manifest:
        if digest_of(self.files) != self.digest:
            raise ValueError("digest is not that of the listed files; the manifest was changed or damaged")
        return self

    @property
    def folder(self) -> str:
        """Where the artifact lies, relative to the store's root."""
        return artifact_folder(self.kind, self.fingerprint)

    def as_input(self) -> InputRef:
        """The reference under which this artifact enters another's manifest."""
        return InputRef(kind=self.kind, fingerprint=self.fingerprint, digest=self.digest)

    def entries(self) -> Iterator[FileEntry]:
        """All files and views."""
        yield from self.files
        yield from self.views

    def to_bytes(self) -> bytes:
        """The content of manifest.json, with a checksum of all the rest in it: one changed bit is found out."""
        return with_checksum(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Manifest:
        """Read manifest.json.

        Raises:
            CorruptObject: it is no manifest, or damaged.
            ArtifactTooNew: a newer Tessera wrote it.
        """
        version = _schema_version(data)
        if version > SCHEMA_VERSION:
            raise ArtifactTooNew(
                f"{where} has schema version {version}, this Tessera reads up to {SCHEMA_VERSION}: update it"
            )
        try:
            return cls.model_validate_json(without_checksum(data, where))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            raise CorruptObject(f"{where} is no manifest: {field}: {first['msg']}") from None


def describe(path: str, data: bytes) -> FileEntry:
    """Return the entry of bytes that are to lie at `path`."""
    return FileEntry(path=path, bytes=len(data), sha256=sha256(data))


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON that is the same for the same value, and that a person can read."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def with_checksum(content: Mapping[str, Any]) -> bytes:
    """JSON that holds the checksum of all the rest of it."""
    return to_json({**content, _CHECKSUM: sha256_json(content)})


def without_checksum(data: bytes, where: str) -> bytes:
    """The content, verified. What was written before there was a checksum has none.

    Raises:
        CorruptObject: the content is not what was written.
    """
    try:
        content = json.loads(data)
    except ValueError:
        return data  # what is wrong with it is said where it is parsed
    if not isinstance(content, dict) or _CHECKSUM not in content:
        return data
    if content.pop(_CHECKSUM) != sha256_json(content):
        raise CorruptObject(f"{where} is damaged: its checksum is not that of its content")
    return json.dumps(content).encode()


def _schema_version(data: bytes) -> int:
    try:
        value = json.loads(data)
    except ValueError:
        return 0
    version = value.get("schema_version") if isinstance(value, dict) else None
    return version if isinstance(version, int) else 0
