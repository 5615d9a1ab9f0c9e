"""Pointers: names that people and other programs read by, each to one published artifact at a time.

A pointer is a row of numbered objects, `pointers/<name>/000001.json`, each created exclusively; the highest number is
the current one. So a switch is one conditional put: readers see the old artifact or the new one, two who switch at once
get one number each, and whoever decided by what was current before says so and is refused if that has changed.
Nothing is ever deleted: the row is the history, and gc leaves every artifact alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from datasets.store.errors import CorruptObject, ObjectMissing, StoreError
from datasets.store.manifest import InputRef
from datasets.store.names import check_pointer, pointer_folder
from datasets.store.store import Store
from vqgan_core.config import Config

__all__ = ["Pointed", "PointerMoved", "current", "history", "names", "promote"]

_ATTEMPTS = 8


class PointerMoved(StoreError):
    """Somebody else has switched a pointer since it was read."""


class Pointed(BaseModel):
    """One entry of a pointer's row."""

    model_config = Config.model_config

    name: str
    """The pointer's name."""
    number: int = Field(ge=1)
    """Place in the row."""
    artifact: InputRef
    """What it points to."""
    promoted: str
    """When, UTC."""
    why: str = ""
    """Who or what decided, in a line."""
    figures: dict[str, Any] = Field(default_factory=dict)
    """The figures by which it was decided."""
    nonce: str
    """Tells two equal entries of two writers apart."""


def promote(
    store: Store,
    name: str,
    artifact: InputRef,
    *,
    why: str = "",
    figures: Mapping[str, Any] | None = None,
    instead_of: int | None = None,
) -> Pointed:
    """Let a name point to an artifact. Once more to the same one changes nothing.

    Args:
        store: where both are.
        name: lower-case letters, digits and dashes.
        artifact: what to point to; it has to be published here.
        why: for the history.
        figures: for the history.
        instead_of: the number that was current when the decision was made, 0 for none; None: whatever is current.

    Raises:
        ArtifactMissing: there is no such artifact.
        PointerMoved: the pointer is not at `instead_of` any more.
    """
    store.get(artifact)
    for _ in range(_ATTEMPTS):
        last = current(store, name)
        number = 0 if last is None else last.number
        if instead_of is not None and number != instead_of:
            raise PointerMoved(
                f"{name} has been switched meanwhile: it is at number {number}, the decision was made at {instead_of}; "
                "look at it and decide again"
            )
        if last is not None and last.artifact == _plain(artifact):
            return last
        entry = Pointed(
            name=name, number=number + 1, artifact=_plain(artifact), why=why, figures=dict(figures or {}),
            promoted=datetime.now(UTC).isoformat(timespec="seconds"), nonce=uuid.uuid4().hex,
        )  # fmt: skip
        data = json.dumps(entry.model_dump(mode="json"), indent=1, ensure_ascii=False).encode() + b"\n"
        if store.storage.create(_path(name, entry.number), data):
            return entry
    raise PointerMoved(f"{name} is being switched by others again and again: try later")


def current(store: Store, name: str) -> Pointed | None:
    """The newest entry of a name's row; None: nothing was ever promoted to it."""
    numbers = _numbers(store, name)
    return _read(store, name, numbers[-1]) if numbers else None


def history(store: Store, name: str) -> list[Pointed]:
    """All entries of a name's row, oldest first."""
    return [_read(store, name, number) for number in _numbers(store, name)]


def names(store: Store) -> list[str]:
    """All names that point anywhere."""
    return sorted(store.storage.folders("pointers"))


def _numbers(store: Store, name: str) -> list[int]:
    stems = [path.rsplit("/", 1)[-1].removesuffix(".json") for path in store.storage.find(pointer_folder(name))]
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _read(store: Store, name: str, number: int) -> Pointed:
    path = _path(name, number)
    try:
        return Pointed.model_validate_json(store.storage.read(path))
    except (ValidationError, ObjectMissing) as error:
        raise CorruptObject(f"{store.storage.url(path)} is no pointer's entry: {type(error).__name__}") from None


def _path(name: str, number: int) -> str:
    return f"{pointer_folder(check_pointer(name))}/{number:06d}.json"


def _plain(artifact: InputRef) -> InputRef:
    return InputRef(kind=artifact.kind, fingerprint=artifact.fingerprint, digest=artifact.digest)
