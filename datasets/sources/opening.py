"""From a source's config to the source. Libraries are imported only for the kind that needs them: torch costs seconds."""

from __future__ import annotations

from datasets.config import DigitsSource, FolderSource, SourceConfig, TorchvisionSource
from datasets.sources.listing import Source

__all__ = ["open_source"]


def open_source(config: SourceConfig) -> Source:
    """The source that a config describes; nothing is listed yet.

    Raises:
        SourceError: it cannot be opened.
    """
    # Deferred imports: each kind has its own heavy library (scikit-learn, torchvision, s3fs).
    if isinstance(config, DigitsSource):
        from datasets.sources.digits import Digits
        from datasets.sources.generated import GeneratedSource

        return GeneratedSource(Digits(), "scikit-learn's digits")
    if isinstance(config, FolderSource):
        from datasets.sources.folder import Folder

        return Folder(config)
    if isinstance(config, TorchvisionSource):
        from datasets.sources.generated import GeneratedSource
        from datasets.sources.torchvision_sets import TorchvisionImages

        return GeneratedSource(TorchvisionImages(config), f"torchvision's {config.name}")
    from datasets.sources.webdataset_shards import WebDatasetShards

    return WebDatasetShards(config)
