"""The two names of an artifact: the fingerprint says what was asked for, the digest says what came out.

Both are sha256 over canonical JSON. A stage is cached under its fingerprint; downstream stages are keyed by their
inputs' digests, because training is not bit-equal on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from vqgan_core.config import sha256_json

__all__ = ["HasDigest", "digest_of", "fingerprint", "sha256"]


class HasDigest(Protocol):
    """An ArtifactRef, InputRef or Manifest."""

    @property
    def digest(self) -> str:
        """Digest of the artifact's files."""


class _File(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def fingerprint(
    stage: str, stage_version: int | str, recipe: Mapping[str, Any], inputs: Sequence[str | HasDigest] = ()
) -> str:
    """Name what a stage is asked for.

    Args:
        stage: the stage's name.
        stage_version: its constant, raised by hand when its numbers change.
        recipe: the JSON-ready recipe of the validated config (`Config.recipe()`).
        inputs: digests of the inputs, or references that have one, in the stage's own order.

    Raises:
        TypeError: the recipe holds what JSON cannot, for example a set, whose order differs between processes.
    """
    digests = [given if isinstance(given, str) else given.digest for given in inputs]
    asked = {"stage": stage, "stage_version": stage_version, "recipe": dict(recipe), "inputs": digests}
    return sha256_json(asked)


def digest_of(files: Iterable[_File]) -> str:
    """Name what came out: sha256 over the sorted list of [path, sha256]. Views do not belong to it."""
    return sha256_json(sorted([file.path, file.sha256] for file in files))


def sha256(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()
