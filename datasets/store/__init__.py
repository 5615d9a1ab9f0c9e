"""The artifact store: published, immutable directories over any fsspec file system.

Read in this order: store.py (what a stage calls), manifest.py and fingerprint.py (what is written), lease.py (one run
at a time), parts.py and workspace.py (what survives a kill), storage/ (what file systems do wrong), gc.py, verify.py.
"""

from datasets.store.artifact import Artifact
from datasets.store.errors import (
    ArtifactMissing,
    ArtifactTooNew,
    CorruptObject,
    DiskFull,
    LeaseLost,
    ObjectMissing,
    StoreError,
    StoreNotWritable,
    StoreUnavailable,
)
from datasets.store.fingerprint import digest_of, fingerprint
from datasets.store.gc import Garbage
from datasets.store.lease import Holder, Lease
from datasets.store.manifest import ArtifactRef, Cost, FileEntry, InputRef, Manifest
from datasets.store.parts import Part
from datasets.store.storage import Storage
from datasets.store.store import Draft, Store
from datasets.store.workspace import Workspace

__all__ = [
    "Artifact",
    "ArtifactMissing",
    "ArtifactRef",
    "ArtifactTooNew",
    "CorruptObject",
    "Cost",
    "DiskFull",
    "Draft",
    "FileEntry",
    "Garbage",
    "Holder",
    "InputRef",
    "Lease",
    "LeaseLost",
    "Manifest",
    "ObjectMissing",
    "Part",
    "Storage",
    "Store",
    "StoreError",
    "StoreNotWritable",
    "StoreUnavailable",
    "Workspace",
    "digest_of",
    "fingerprint",
]
