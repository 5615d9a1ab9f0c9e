"""Garbage: what no artifact refers to and nobody has touched for a day.

Marked are all files that a manifest lists. Swept are parts that are not, unpublished folders, workspaces and claims of
published artifacts, and temporary files of killed writers. Never anything that is young; never what a live run may be
working on: the folder's own lease is taken before its workspace is deleted, and no part is deleted while any run lives.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from datasets.store.lease import claim_path, generations, read_holder, try_hold
from datasets.store.manifest import Manifest
from datasets.store.names import MANIFEST, RESERVED, resolve
from datasets.store.storage import Entry, Storage
from datasets.store.storage.backend import is_temporary

__all__ = ["Garbage", "collect"]

_ARTIFACT = re.compile(r"[a-z][a-z0-9_]*/[0-9a-f]{64}")
_SURELY_DEAD_SECONDS = 3600.0
_ABANDONED_AGES = 30
_ABANDONED = f"partial work that nobody has touched for {_ABANDONED_AGES} times the age"


@dataclass(frozen=True, slots=True)
class Garbage:
    """One object that is not needed."""

    path: str
    bytes: int
    reason: str


def collect(
    storage: Storage,
    published: Callable[[], Sequence[Manifest]],
    *,
    dry_run: bool,
    older_than_seconds: float,
) -> list[Garbage]:
    """List garbage and, unless `dry_run`, delete it.

    Args:
        storage: the store.
        published: reads all manifests; called after the listing, and again before parts are looked at.
        dry_run: only list.
        older_than_seconds: what has a younger object beside it stays; so do live runs' claims of any age.

    Returns:
        What was found or deleted; with `dry_run=False` only what is really gone.
    """
    groups = _group(storage.entries(""))
    parts = {folder for folder in groups if folder.startswith("parts/")}
    found = []
    for folders in (set(groups) - parts, parts):
        sweep = _Sweep(storage, groups, published(), older_than_seconds)
        for folder in sorted(folders):
            garbage = sweep.garbage_in(folder)
            if garbage and (dry_run or sweep.delete(folder, garbage)):
                found += garbage
    return found


class _Sweep:
    """One pass over a listing."""

    def __init__(
        self,
        storage: Storage,
        groups: Mapping[str, list[Entry]],
        manifests: Sequence[Manifest],
        older_than_seconds: float,
    ) -> None:
        self._storage = storage
        self._groups = groups
        self._age = older_than_seconds
        self._now = time.time()
        self._listed = {resolve(manifest.folder, entry.path) for manifest in manifests for entry in manifest.entries()}
        self._published = {manifest.folder for manifest in manifests}
        # A manifest that cannot be read may be a published artifact's: neither it nor any part is touched.
        self._unreadable = {
            folder
            for folder, entries in groups.items()
            if folder not in self._published and any(entry.path == f"{folder}/{MANIFEST}" for entry in entries)
        }
        self._live = {folder for folder in groups if folder.startswith("claims/") and self._is_live(folder)}

    def garbage_in(self, folder: str) -> list[Garbage]:
        """What of a folder is garbage."""
        entries = self._groups[folder]
        leftovers = [entry for entry in entries if _is_leftover(entry.path) and self._is_old([entry])]
        if reason := self._reason(folder, entries):
            return [Garbage(entry.path, entry.bytes, reason) for entry in entries]
        garbage = [Garbage(entry.path, entry.bytes, "left by a killed writer") for entry in leftovers]
        if folder in self._published and self._claim_of(folder) not in self._live:
            known = {f"{folder}/{MANIFEST}", *self._listed, *(entry.path for entry in leftovers)}
            strange = [entry for entry in entries if entry.path not in known and self._is_old([entry])]
            garbage += [Garbage(entry.path, entry.bytes, "not listed by the manifest beside it") for entry in strange]
        return garbage

    def delete(self, folder: str, garbage: Iterable[Garbage]) -> bool:
        """Delete a folder's garbage; False if a run has begun to use it."""
        if folder.startswith("parts/"):
            if any(self._is_live(claim) for claim in self._claims()):
                return False
            self._remove(garbage)
            return True
        claim = folder if folder.startswith("claims/") else self._claim_of(folder)
        if claim is None:
            self._remove(garbage)
            return True
        with try_hold(self._storage, claim) as lease:
            if lease is None or self._published_since(folder):
                return False
            self._remove(garbage)
        # Our own claim goes, too, where nobody needs to see that there was one.
        if claim == folder or folder.removeprefix("work/") in self._published or lease.generation == 1:
            self._storage.delete(claim_path(claim, lease.generation))
        return True

    def _reason(self, folder: str, entries: Sequence[Entry]) -> str | None:
        """Why a whole folder is garbage."""
        if not self._is_old(entries) or self._live & {folder, self._claim_of(folder)}:
            return None
        area, name = folder.partition("/")[::2]
        if area == "parts":
            keep = self._live or self._unreadable or any(entry.path in self._listed for entry in entries)
            return None if keep else "part of no artifact"
        if area == "work":
            abandoned = _ABANDONED if self._is_old(entries, _ABANDONED_AGES) else None
            return "partial work of a published artifact" if name in self._published else abandoned
        if area == "claims":
            return "claim of a published artifact" if name in map(_claim_name, self._published) else None
        return None if folder in self._published | self._unreadable else "never published"

    def _published_since(self, folder: str) -> bool:
        """Whether a run has published the folder since the manifests were read; its lease is ours now."""
        is_artifact = _ARTIFACT.fullmatch(folder) is not None and folder not in self._published
        return is_artifact and self._storage.size(f"{folder}/{MANIFEST}") is not None

    def _is_old(self, entries: Sequence[Entry], times: float = 1.0) -> bool:
        return all(self._now - entry.modified >= self._age * times for entry in entries)

    def _claims(self) -> list[str]:
        return [f"claims/{name}" for name in self._storage.folders("claims")]

    def _claim_of(self, folder: str) -> str | None:
        """The claims folder that guards a folder; None for what is no artifact's."""
        folder = folder.removeprefix("work/")
        return f"claims/{_claim_name(folder)}" if _ARTIFACT.fullmatch(folder) else None

    def _is_live(self, claim: str) -> bool:
        numbers = generations(self._storage, claim)
        holder = read_holder(self._storage, claim, numbers[-1]) if numbers else None
        if holder is None or holder.released or holder.is_dead():
            return False
        last = claim_path(claim, numbers[-1])
        beats = [entry.modified for entry in self._groups.get(claim, []) if entry.path == last]
        return not beats or self._now - beats[0] < max(self._age, _SURELY_DEAD_SECONDS)

    def _remove(self, garbage: Iterable[Garbage]) -> None:
        for item in garbage:
            self._storage.delete(item.path)


def _group(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Sort a listing into the folders of artifacts, parts, workspaces and claims; the rest is not ours or stays."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        segments = entry.path.split("/")
        depth = {"parts": 3, "work": 3}.get(segments[0], 2)
        if segments[0] == "claims" and len(segments) == 2:
            groups["claims"].append(entry)
        elif len(segments) > depth:
            folder = "/".join(segments[:depth])
            if segments[0] in RESERVED - {"pointers"} or _ARTIFACT.fullmatch(folder):
                groups[folder].append(entry)
    return dict(groups)


def _is_leftover(path: str) -> bool:
    return is_temporary(path) or path.startswith("claims/.probe-")


def _claim_name(folder: str) -> str:
    return folder.replace("/", "-")
