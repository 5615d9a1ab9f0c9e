"""From an image's own size to the stored one: the short side is resized, then a square is cut or the aspect kept.

Everything of a record goes through this alone, which is what keeps its planes aligned.
"""

from __future__ import annotations

from PIL import Image

__all__ = ["resized"]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized(image: Image.Image, size_px: int, crop: str, resample: str) -> Image.Image:
    """Resize the short side to `size_px` and, with crop center, cut the square in the middle."""
    width, height = image.size
    short = min(width, height)
    # Integer arithmetic, rounding half up: the same on every machine.
    size = tuple((2 * side * size_px + short) // (2 * short) for side in (width, height))
    if size != image.size:
        image = image.resize((size[0], size[1]), _RESAMPLING[resample])
    if crop == "none":
        return image
    left, top = (image.width - size_px) // 2, (image.height - size_px) // 2
    return image.crop((left, top, left + size_px, top + size_px))
