"""Cutting a listing into units of work: each is read, decoded and published on its own, and survives a kill.

Images are ordered by the hash of their path, so that a unit is a random sample of the source: class-sorted folders are
shuffled here, once, and training may shuffle in small windows. A unit's key names everything that its bytes depend on,
so a unit that is there is never built again. A later generation of a grown source plans only the entries that are new.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datasets.config import ShardConfig
from datasets.sorting import SortedRows
from datasets.sources.listing import SourceEntry
from vqgan_core.config import sha256_json

__all__ = ["FORMAT_VERSION", "Unit", "plan_units", "unit_recipe"]

FORMAT_VERSION = 1
"""Of shards and index. Raised when the same entries and recipe would give other bytes."""

UNIT_VERSION = 2
"""Raised when a unit gets other files: 2 added the entries that it was made from."""

_NOT_IN_A_UNIT = ("source", "parent", "images_per_shard", "max_bad_fraction", "near_duplicates")


@dataclass(frozen=True, slots=True)
class Unit:
    """Entries that are ingested together and become one shard of each split."""

    index: int
    key: str
    entries: tuple[SourceEntry, ...]


def plan_units(entries: Iterable[SourceEntry], config: ShardConfig, first_index: int = 0) -> Iterator[Unit]:
    """Cut entries into units of `images_per_shard`; one unit's entries are in memory at a time.

    Args:
        entries: a listing, or of a grown source what its parent corpus does not have.
        config: the shard stage's config.
        first_index: number of the first unit: how many the parent corpus has.
    """
    by_hash = SortedRows(num_keys=2, rows=((_order(entry), *entry.to_row()) for entry in entries))
    ordered = (SourceEntry.from_row(row[1:]) for row in by_hash)
    recipe = unit_recipe(config.recipe())
    for index in itertools.count(first_index):
        members = tuple(itertools.islice(ordered, config.images_per_shard))
        if not members:
            return
        yield _unit(index, members, recipe)


def _order(entry: SourceEntry) -> str:
    return hashlib.sha256(entry.path.encode()).hexdigest()


def unit_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a shard stage's recipe changes a unit's bytes.

    Of near duplicates that is the hash; which of them are left out is decided over all units.
    """
    found = {name: value for name, value in recipe.items() if name not in _NOT_IN_A_UNIT}
    near = recipe.get("near_duplicates")
    return found if near is None else {**found, "perceptual_hash": near["hash"]}


def _unit(index: int, entries: tuple[SourceEntry, ...], recipe: dict[str, Any]) -> Unit:
    members = [entry.identity for entry in entries]
    # The index is in the names of a unit's files, so it is part of what they are made from.
    key = sha256_json({"format_version": UNIT_VERSION, "index": index, "recipe": recipe, "members": members})
    return Unit(index, key, entries)
