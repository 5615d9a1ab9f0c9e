"""From a batch to what the tokenizer sees: images as they are, label maps as one channel a class.

Axes: B batch, C channels or classes, H×W image.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vqgan_core.config import TokenizerConfig
from vqgan_core.tokenizer import check_labels, one_hot
from vqgan_core.training.loop import Batch


def check_batch(batch: Batch, config: TokenizerConfig) -> None:
    """Refuse a batch that this tokenizer does not take, before it goes to the device.

    Raises:
        ValueError: images where label maps are expected, or the other way round, or a label outside the classes.
    """
    kind = config.batch_name
    if kind not in batch:
        raise ValueError(f"a batch of {', '.join(sorted(batch))}: this tokenizer takes {kind} (loss.pixel says which)")
    if kind == "label_maps":
        check_labels(batch[kind], config.autoencoder.image_channels)


def images_of(piece: Batch, config: TokenizerConfig) -> Float[Tensor, "B C H W"]:
    """What the tokenizer sees of a piece; label maps become large only here, on the device."""
    if config.takes_label_maps:
        return one_hot(piece["label_maps"], config.autoencoder.image_channels)
    return piece["images"]
