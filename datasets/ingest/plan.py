"""Cutting a listing into units of work: each is read, decoded and published on its own, and survives a kill.

Images are ordered by the hash of their path, so that a unit is a random sample of the source: class-sorted folders are
shuffled here, once, and training may shuffle in small windows. A unit's key names everything that its bytes depend on,
so a unit that is there is never built again. A later generation of a grown source plans only the entries that are new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from datasets.config import ShardConfig
from datasets.sources.listing import SourceEntry
from vqgan_core.config import sha256_json

__all__ = ["FORMAT_VERSION", "Unit", "plan_units", "unit_recipe"]

FORMAT_VERSION = 1
"""Raised when the same entries and recipe would give other bytes."""

_NOT_IN_A_UNIT = ("source", "images_per_shard", "max_bad_fraction")


@dataclass(frozen=True, slots=True)
class Unit:
    """Entries that are ingested together and become one shard of each split."""

    index: int
    key: str
    entries: tuple[SourceEntry, ...]


def plan_units(entries: Iterable[SourceEntry], config: ShardConfig, first_index: int = 0) -> list[Unit]:
    """Cut entries into units of `images_per_shard`.

    Args:
        entries: a listing, or of a grown source what its parent corpus does not have.
        config: the shard stage's config.
        first_index: number of the first unit: how many the parent corpus has.
    """
    ordered = sorted(entries, key=lambda entry: (hashlib.sha256(entry.path.encode()).digest(), entry.path))
    recipe, size = unit_recipe(config), config.images_per_shard
    starts = range(0, len(ordered), size)
    return [_unit(first_index + i, tuple(ordered[start : start + size]), recipe) for i, start in enumerate(starts)]


def unit_recipe(config: ShardConfig) -> dict[str, Any]:
    """What of the config changes a unit's bytes."""
    return {name: value for name, value in config.recipe().items() if name not in _NOT_IN_A_UNIT}


def _unit(index: int, entries: tuple[SourceEntry, ...], recipe: dict[str, Any]) -> Unit:
    members = [entry.identity() for entry in entries]
    # The index is in the names of a unit's files, so it is part of what they are made from.
    key = sha256_json({"format_version": FORMAT_VERSION, "index": index, "recipe": recipe, "members": members})
    return Unit(index, key, entries)
