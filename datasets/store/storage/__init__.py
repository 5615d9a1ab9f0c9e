"""Whole objects over fsspec: the one place that knows what fsspec, s3fs and file systems silently do wrong."""

from datasets.store.storage.backend import Entry
from datasets.store.storage.storage import Storage

__all__ = ["Entry", "Storage"]
