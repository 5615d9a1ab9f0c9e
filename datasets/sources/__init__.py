"""Where raw images are: a listing that names everything in a source, and verified reads of its images."""

from __future__ import annotations

from datasets.sources.listing import BY_RULE, Listing, Progress, Skipped, Source, SourceEntry
from datasets.sources.opening import open_source

__all__ = ["BY_RULE", "Listing", "Progress", "Skipped", "Source", "SourceEntry", "open_source"]
