"""What can go wrong with a store. Every message is one line that a person can act on, and holds no secret.

StoreError
├── StoreUnavailable       no such bucket, bad credentials, endpoint out of reach, a url that names no store
├── StoreNotWritable       no permission, a read-only file system, a path below a file
│   └── DiskFull           no space, quota or file-size limit
├── ObjectMissing          no such object
├── CorruptObject          an object has another size or sha256 than its manifest says
├── ArtifactMissing        no published artifact of that kind, fingerprint and digest
├── ArtifactTooNew         a newer Tessera published it
└── LeaseLost              another run has taken over what this one was computing
"""

from __future__ import annotations

__all__ = [
    "ArtifactMissing",
    "ArtifactTooNew",
    "CorruptObject",
    "DiskFull",
    "LeaseLost",
    "ObjectMissing",
    "StoreError",
    "StoreNotWritable",
    "StoreUnavailable",
]


class StoreError(Exception):
    """Base of everything that a store reports."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or opened."""


class StoreNotWritable(StoreError):
    """The store refuses writes."""


class DiskFull(StoreNotWritable):
    """There is no room for what is to be written."""


class ObjectMissing(StoreError):
    """There is no object at a path."""


class CorruptObject(StoreError):
    """An object is not what was published."""


class ArtifactMissing(StoreError):
    """There is no such published artifact."""


class ArtifactTooNew(StoreError):
    """A manifest has a schema that this version cannot read; to call it damaged would be to overwrite it."""


class LeaseLost(StoreError):
    """Another run holds the lease by now; what this run computes must not be published."""
