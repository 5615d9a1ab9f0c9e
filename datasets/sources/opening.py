"""From a source's config to the source."""

from __future__ import annotations

from datasets.config import DigitsSource, FolderSource, SourceConfig, WebDatasetSource
from datasets.sources.folder import Folder
from datasets.sources.generated import GeneratedSource
from datasets.sources.listing import Source
from datasets.sources.webdataset_shards import WebDatasetShards

__all__ = ["open_source"]


def open_source(config: SourceConfig) -> Source:
    """The source that a config describes; nothing is listed yet.

    Raises:
        SourceError: it cannot be opened.
    """
    if isinstance(config, FolderSource):
        return Folder(config)
    if isinstance(config, WebDatasetSource):
        return WebDatasetShards(config)
    if isinstance(config, DigitsSource):
        from datasets.sources.digits import Digits  # noqa: PLC0415 - scikit-learn takes a second to import

        return GeneratedSource(Digits(), "scikit-learn's digits")
    from datasets.sources.torchvision_sets import TorchvisionImages  # noqa: PLC0415 - torch takes seconds to import

    return GeneratedSource(TorchvisionImages(config), f"torchvision's {config.name}")
