"""Whether what a tokenizer encodes is what records have. Configs alone: it is asked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping

from datasets.pair_config import LabelMaps, StoredContent
from vqgan_core.config import ConfigError, PlaneConfig, StoredPlane, TokenizerConfig

__all__ = ["check_plane"]


def check_plane(config: TokenizerConfig, image_channels: int, stored: Mapping[str, StoredContent]) -> None:
    """Refuse a tokenizer of something that records do not have, or that is not what it takes.

    Args:
        config: the tokenizer's.
        image_channels: of the corpus' images.
        stored: what the corpus keeps beside them.

    Raises:
        ConfigError: says what does not fit.
    """
    plane = config.plane
    if isinstance(plane, StoredPlane) and plane.name not in stored:
        raise ConfigError(
            f"tokenizer.plane {plane.name}: the corpus keeps {', '.join(stored) or 'nothing'} beside its images; shard "
            f"it with pairs.{plane.name}"
        )
    content = stored[plane.name] if isinstance(plane, StoredPlane) else None
    if isinstance(content, LabelMaps) != config.takes_label_maps:
        what = "holds label maps" if isinstance(content, LabelMaps) else "holds no label maps"
        allowed = "cross_entropy or bce" if isinstance(content, LabelMaps) else "l1 or l2"
        raise ConfigError(f"tokenizer.plane {_name(plane)} {what}: set tokenizer.loss.pixel to {allowed}")
    given = _channels(plane, image_channels, content)
    if config.autoencoder.image_channels != given:
        raise ConfigError(
            f"tokenizer.autoencoder.image_channels is {config.autoencoder.image_channels} but "
            + (f"shard.channels is {given}" if plane.kind == "image" else f"plane {_name(plane)} has {given}")
            + ": make them equal"
        )


def _name(plane: PlaneConfig) -> str:
    return plane.name if isinstance(plane, StoredPlane) else plane.kind


def _channels(plane: PlaneConfig, image_channels: int, content: StoredContent | None) -> int:
    if isinstance(content, LabelMaps):
        return content.num_classes
    if content is not None:
        return content.channels
    return 1 if plane.kind == "edges" else image_channels
