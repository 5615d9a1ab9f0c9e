"""What a tokenizer encodes of a corpus' records: how it is read, and how it is shown.

Axes: B batch, C channels or classes, H×W pixels.

Colours of label maps are PASCAL VOC's: the bits of a class' number in turn go to red, green and blue, high bits first.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from datasets.corpus import Corpus
from datasets.plane_check import check_plane
from vqgan_core.config import PlaneConfig, TokenizerConfig

__all__ = ["pictures", "planes_of", "require_plane", "to_pixels", "voc_palette"]


def planes_of(config: TokenizerConfig) -> dict[str, PlaneConfig]:
    """What batches for a tokenizer hold."""
    return {config.batch_name: config.plane}


def require_plane(config: TokenizerConfig, corpus: Corpus) -> None:
    """Refuse a tokenizer of something that a corpus does not have, or that is not what it takes.

    Raises:
        ConfigError: says what does not fit.
    """
    check_plane(config, corpus.channels, corpus.planes)


def pictures(values: Tensor, config: TokenizerConfig) -> list[NDArray[np.uint8]]:
    """What a tokenizer takes or gives, as pictures: label maps and logits in colours, others as they are.

    Of two channels the first is shown, of four or more the first three.

    Args:
        values: images or reconstructions `B C H W`, or label maps `B H W`.
        config: the tokenizer's.
    """
    if config.takes_label_maps:
        labels = values.argmax(dim=1) if values.ndim == 4 else values
        palette = voc_palette(config.autoencoder.image_channels)
        return [palette[label_map] for label_map in labels.cpu().long().numpy()]
    return to_pixels(values[:, : 3 if values.shape[1] >= 3 else 1])


def to_pixels(images: Float[Tensor, "B C H W"]) -> list[NDArray[np.uint8]]:
    """Images in [-1, 1] as uint8 arrays `H W C` (rounded, not truncated)."""
    scaled = (images.float().clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())


def voc_palette(num_classes: int) -> UInt8[np.ndarray, "C 3"]:
    """A colour for each class; class 0 is black."""
    colours = np.zeros((num_classes, 3), np.uint8)
    numbers = np.arange(num_classes)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours
