"""A network in whose features sets of images are compared, and how images are brought to it.

Axes: `B batch, H×W pixels, D feature width, P width of the spatial features, L classes`.

Images reach every extractor as bytes, as they would from files: without that, reconstructions (floats) and samples
(PNG) would be compared differently. Grey images are repeated to three channels.

A batch always has the same size, whatever the stage's own batch: a network's last bits depend on it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from vqgan_core.config.extractor import ExtractorConfig
from vqgan_core.weights import WeightsError, file_sha256, read_tensors, weights_file

__all__ = ["BATCH", "Extractor", "Features", "as_bytes", "imagenet_normalised", "joined", "read_weights", "resized"]

BATCH = 50
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """What a network says of images."""

    pooled: Float[Tensor, "B D"]
    """Averaged over places: Fréchet and kernel distance, precision, recall, density, coverage."""
    spatial: Float[Tensor, "B P"] | None = None
    """With places kept apart: sFID."""
    logits: Float[Tensor, "B L"] | None = None
    """Class scores: Inception score."""


class Extractor(Protocol):
    """A pretrained network."""

    name: str
    """What it is called in a metric."""
    sha256: str
    """Of the weights file."""
    resize: str
    """How images are brought to its size."""
    library: str
    """What computes it."""

    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> Features:
        """The features of one batch, on the CPU in fp32."""


def as_bytes(images: Float[Tensor, "B C H W"], rounding: str) -> UInt8[Tensor, "B 3 H W"]:
    """Images in [-1, 1] as a picture file would hold them, in three channels.

    Args:
        images: one or three channels.
        rounding: `round`, or `truncate` as some evaluators do, which darkens by half a level.
    """
    scaled = (images.float().clamp(-1, 1) + 1) * 127.5
    levels = scaled.round() if rounding == "round" else scaled.floor()
    return levels.to(torch.uint8).expand(-1, 3, -1, -1)


def resized(images: UInt8[Tensor, "B 3 H W"], size_px: int) -> Float[Tensor, "B 3 size_px size_px"]:
    """Images in [0, 1], bicubic with antialiasing; not rounded, so that values may lie a little outside."""
    pixels = images.float() / 255
    if tuple(images.shape[-2:]) == (size_px, size_px):
        return pixels
    return F.interpolate(pixels, size=(size_px, size_px), mode="bicubic", align_corners=False, antialias=True)


def imagenet_normalised(pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Images in [0, 1] with the mean and deviation of ImageNet taken out."""
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (pixels - mean) / std


def joined(parts: list[Features]) -> Features:
    """Features of all batches, in their order.

    Raises:
        ValueError: there is none.
    """
    if not parts:
        raise ValueError("no features: the set of images is empty")
    columns = zip(*parts, strict=True)
    return Features(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]  # a column is all tensors or all None


def read_weights(config: ExtractorConfig) -> tuple[dict[str, Tensor], str]:
    """The tensors of a config's weights file, and its sha256, which is checked before anything is read.

    Raises:
        WeightsError: the file is missing, another one than the config says, or holds something else than tensors.
    """
    what = f"{config.kind} weights"
    path = weights_file(config.weights, what=what, remedy="give the path or URL of the file")
    digest = file_sha256(path)
    if not digest.startswith(config.sha256):
        raise WeightsError(f"{what} {path}: its sha256 is {digest}, the config asks for {config.sha256}…")
    return read_tensors(path, what=what), digest
