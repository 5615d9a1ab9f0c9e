"""From a source's config to the source."""

from __future__ import annotations

from collections.abc import Mapping

from datasets.config import DigitsSource, FolderSource, SourceConfig, WebDatasetSource
from datasets.pair_config import FilesPair, PairConfig
from datasets.sources.folder import Folder
from datasets.sources.generated import GeneratedSource
from datasets.sources.listing import Source
from datasets.sources.pairs import PairedFolder
from datasets.sources.webdataset_shards import WebDatasetShards

__all__ = ["open_source"]


def open_source(config: SourceConfig, pairs: Mapping[str, PairConfig] | None = None) -> Source:
    """The source that a config describes; nothing is listed yet.

    Args:
        config: where the images are.
        pairs: what else there is of each image; those of kind files belong to a folder.

    Raises:
        SourceError: it cannot be opened.
    """
    files = {name: pair for name, pair in (pairs or {}).items() if isinstance(pair, FilesPair)}
    if isinstance(config, FolderSource):
        return PairedFolder(Folder(config), files) if files else Folder(config)
    assert not files, "the config refuses second files of other sources"
    if isinstance(config, WebDatasetSource):
        return WebDatasetShards(config)
    if isinstance(config, DigitsSource):
        from datasets.sources.digits import Digits  # noqa: PLC0415 - scikit-learn takes a second to import

        return GeneratedSource(Digits(), "scikit-learn's digits")
    from datasets.sources.torchvision_sets import TorchvisionImages  # noqa: PLC0415 - torch takes seconds to import

    return GeneratedSource(TorchvisionImages(config), f"torchvision's {config.name}")
