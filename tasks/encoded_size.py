"""What part of an image the encode stage shows to tokenizers, and the grids of tokens that come of it.

Usually that is the size that the tokenizer was trained on. `encode.size_px` makes tokens of larger images, above all
for conditions of large samples.
"""

from __future__ import annotations

from vqgan_core.config import ConfigError, EncodeConfig, TokenizerConfig

__all__ = ["PixelSize", "encoded_px", "own_grid", "plane_px", "said"]

PixelSize = tuple[int, int]
"""Height and width."""


def encoded_px(config: EncodeConfig, model: TokenizerConfig) -> PixelSize:
    """Height and width of the window of an image.

    Args:
        config: of the encode stage.
        model: the tokenizer of the images.

    Raises:
        ConfigError: the tokenizer cannot divide it.
    """
    if config.size_px is None:
        return model.window_px, model.window_px
    multiple = model.size_multiple * (model.window_px // model.autoencoder.resolution_px)
    if any(side < 1 or side % multiple for side in config.size_px):
        raise ConfigError(
            f"encode.size_px {list(config.size_px)}: both sides are multiples of {multiple}, the tokenizer's factor"
        )
    return config.size_px


def own_grid(config: EncodeConfig, model: TokenizerConfig) -> tuple[int, int]:
    """Rows and columns of an image's own tokens; raises as `encoded_px`."""
    return model.grid(*plane_px(encoded_px(config, model), model))


def plane_px(window_px: PixelSize, model: TokenizerConfig) -> PixelSize:
    """Height and width of what a tokenizer encodes of such a window: its plane may be of low resolution."""
    shrunk = model.window_px // model.autoencoder.resolution_px
    return window_px[0] // shrunk, window_px[1] // shrunk


def said(size_px: PixelSize) -> int | list[int]:
    """A size as token files say it: one number if it is square."""
    return size_px[0] if size_px[0] == size_px[1] else list(size_px)
