"""Reading everything again: does the store still hold what was published?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datasets.store.artifact import read_checked
from datasets.store.errors import CorruptObject, ObjectMissing
from datasets.store.manifest import Manifest
from datasets.store.names import resolve
from datasets.store.storage import Storage

__all__ = ["verify_manifest"]


def verify_manifest(
    storage: Storage, manifests: Sequence[Manifest], progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Read every file of some artifacts; return one line for each that is missing or damaged.

    Args:
        storage: the store.
        manifests: what to check; a file that several share is read once.
        progress: called with bytes done and bytes in all after each file.
    """
    files = {
        (resolve(manifest.folder, entry.path), entry.sha256, entry.bytes): entry
        for manifest in manifests
        for entry in manifest.entries()
    }
    total = sum(entry.bytes for entry in files.values())
    done, problems = 0, []
    for (path, _, _), entry in files.items():
        try:
            read_checked(storage, path, entry)
        except (CorruptObject, ObjectMissing) as error:
            problems.append(str(error))
        done += entry.bytes
        if progress is not None:
            progress(done, total)
    return problems
