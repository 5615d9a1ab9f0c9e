"""Which names may stand in a store, and where everything lies in it.

<root>/<kind>/<fingerprint>/manifest.json, files …     published artifacts
<root>/parts/<kind>/<key>/part.json, files …           parts that artifacts share
<root>/work/<kind>/<fingerprint>/…                     checkpoints and pieces of runs that are not finished
<root>/claims/<kind>-<fingerprint>/000001.json …       who computes what
<root>/pointers/<name>/000001.json …                   what a name points to; the highest number is current
<root>/records/…                                       what Prefect remembers of tasks (tasks.records)
"""

from __future__ import annotations

import posixpath
import re

__all__ = [
    "MANIFEST",
    "PART",
    "RESERVED",
    "artifact_folder",
    "check_file",
    "check_kind",
    "check_name",
    "check_pointer",
    "claim_folder",
    "part_folder",
    "pointer_folder",
    "resolve",
    "work_folder",
]

MANIFEST = "manifest.json"
PART = "part.json"
RESERVED = frozenset({"parts", "work", "claims", "pointers", "records"})

_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}")
_POINTER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SHARED = "../../parts/"


def check_kind(kind: str) -> str:
    """Return an artifact's or part's kind.

    Raises:
        ValueError: it is no plain lower-case word, or the store's own.
    """
    if not _KIND.fullmatch(kind) or kind in RESERVED:
        raise ValueError(f"kind {kind!r}: expected a lower-case word (a-z, 0-9, _) other than {sorted(RESERVED)}")
    return kind


def check_name(name: str) -> str:
    """Return a fingerprint, part key or segment of a file name.

    Raises:
        ValueError: it could not be a name on every kind of store.
    """
    if not _NAME.fullmatch(name) or ".tmp-" in name:
        raise ValueError(
            f"name {name!r}: expected letters, digits and . _ = + - only, beginning with one of the first two"
        )
    return name


def check_pointer(name: str) -> str:
    """Return a pointer's name.

    Raises:
        ValueError: it is more than lower-case letters, digits and dashes.
    """
    if not _POINTER.fullmatch(name):
        raise ValueError(f"pointer {name!r}: expected lower-case letters, digits and dashes (my-faces), at most 63")
    return name


def check_file(path: str) -> str:
    """Return a file's path in a manifest: plain below the artifact, or `../../parts/<kind>/<key>/<name>`.

    Raises:
        ValueError: it leads anywhere else.
    """
    plain = path.removeprefix(_SHARED)
    for segment in plain.split("/"):
        check_name(segment)
    if path != plain and plain.count("/") < 2:
        raise ValueError(f"path {path!r}: a shared file lies at {_SHARED}<kind>/<key>/<name>")
    return path


def artifact_folder(kind: str, fingerprint: str) -> str:
    """Where an artifact lies."""
    return f"{check_kind(kind)}/{check_name(fingerprint)}"


def part_folder(kind: str, key: str) -> str:
    """Where a part lies."""
    return f"parts/{check_kind(kind)}/{check_name(key)}"


def work_folder(kind: str, fingerprint: str) -> str:
    """Where the partial work on an artifact lies."""
    return f"work/{check_kind(kind)}/{check_name(fingerprint)}"


def claim_folder(kind: str, fingerprint: str) -> str:
    """Where it is written who computes an artifact."""
    return f"claims/{check_kind(kind)}-{check_name(fingerprint)}"


def pointer_folder(name: str) -> str:
    """Where the row of a pointer lies."""
    return f"pointers/{check_pointer(name)}"


def resolve(folder: str, path: str) -> str:
    """Turn a manifest's path into one that is relative to the root."""
    return posixpath.normpath(posixpath.join(folder, check_file(path)))
