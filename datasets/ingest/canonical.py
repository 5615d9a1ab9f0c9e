"""The canonical decode: from any image file to the bytes that a corpus stores. Runs in child processes.

In this order, each step stated because each changes pixels:

1. The header only: formats that Pillow recognises by content (never by name, except TGA, which has no magic number; no
   EPS or WMF, which run other programs); size limit, shortest side, aspect.
2. Pillow's load. A truncated or corrupt file raises; it is never completed with grey.
3. The first frame of animations and of files with several pages.
4. The EXIF orientation is applied.
5. Deep grey: 16-bit levels are shifted right by 8 (Pillow's own conversion clips them); 32-bit integers are taken for
   16-bit levels; floats have no stated range and are refused.
6. An embedded ICC profile is converted to sRGB (perceptual intent); one that is broken, or made for other channels than
   the image has, is ignored. Before step 7, so that the background has exactly the stated colour.
7. Transparent images are laid on the background colour. Palettes and colour keys become RGBA before it.
8. Conversion to L or RGB (CMYK, YCbCr, LAB, 1-bit, … through Pillow's).
9. Resize of the short side, Pillow's antialiasing filter; centre crop to a square, or the aspect ratio is kept.
10. Encoding with fixed settings.

Keep this module's imports light: every child process pays for them, and torch must not be among them.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from datasets.config import ShardConfig

__all__ = ["CanonicalImage", "Recipe", "Unusable", "canonicalize", "describe"]

Image.init()  # registers all formats; only these are ever opened. Each has a magic number; MPO opens as JPEG.
_WANTED = ("AVIF", "BMP", "CUR", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI")
_BY_CONTENT = [name for name in (*_WANTED, "TIFF", "WEBP") if name in Image.OPEN]  # AVIF came with Pillow 11.3
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_PROFILE_MODES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}
_MAX_DETAIL = 160


@dataclass(frozen=True, slots=True)
class Recipe:
    """What of a ShardConfig the decode needs, without pydantic."""

    size_px: int
    crop: str
    channels: int
    resample: str
    background: tuple[int, int, int]
    format: str
    jpeg_quality: int
    min_size_px: int
    max_aspect_ratio: float
    max_pixels: int

    @classmethod
    def of(cls, config: ShardConfig) -> Recipe:
        """Take the fields of the same names."""
        return cls(**{name: getattr(config, name) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class CanonicalImage:
    """What a corpus stores of an image."""

    data: bytes
    width: int
    height: int


class Unusable(Exception):
    """An image that is left out, with a reason that is counted and a detail for people."""

    def __init__(self, reason: str, detail: str) -> None:
        """Reason and detail."""
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def canonicalize(data: bytes, name: str, recipe: Recipe) -> CanonicalImage:
    """Decode, normalise, resize and encode one image.

    Sets Pillow's process-wide pixel limit, which is why it belongs into a child process.

    Raises:
        Unusable: for a stated reason.
        Exception: whatever Pillow raises on a damaged file; the caller quarantines it as undecodable.
    """
    if not data:
        raise Unusable("empty", "the file has no bytes")
    Image.MAX_IMAGE_PIXELS = recipe.max_pixels
    formats = [*_BY_CONTENT, "TGA"] if name.lower().endswith(".tga") else _BY_CONTENT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Files inside files (icons, pages) are checked by Pillow itself; its warning is our error.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _check_size(image.size, recipe)
                image.load()
                _check_size(image.size, recipe)
                pixels = _normalised(image, recipe)
        except UnidentifiedImageError:
            raise Unusable("not_an_image", "no image format that is read here") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Unusable("too_large", describe(error)) from None
    pixels = _resized(pixels, recipe)
    return CanonicalImage(_encoded(pixels, recipe), pixels.width, pixels.height)


def describe(error: BaseException) -> str:
    """An error in one line that is the same in every run: no addresses, no object reprs."""
    text = re.sub(r"<[^<>]* object at 0x[0-9a-fA-F]+>", "the file", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_MAX_DETAIL]


def _check_size(size: tuple[int, int], recipe: Recipe) -> None:
    width, height = size
    short, long = min(size), max(size)
    if width * height > recipe.max_pixels:
        raise Unusable("too_large", f"{width}×{height} pixels, at most {recipe.max_pixels} are allowed")
    if short < recipe.min_size_px:
        raise Unusable("too_small", f"{width}×{height} pixels, the short side must have {recipe.min_size_px}")
    if long > recipe.max_aspect_ratio * short:
        raise Unusable("extreme_aspect", f"{width}×{height} pixels, at most 1:{recipe.max_aspect_ratio:g} is allowed")


def _normalised(image: Image.Image, recipe: Recipe) -> Image.Image:
    """Steps 3 to 8: an image of mode L or RGB. Pillow opens files at their first frame."""
    profile = image.info.get("icc_profile")
    image = _shallow(ImageOps.exif_transpose(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode in ("P", "PA", "RGBX", "1"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image = _to_srgb(image, profile)
    if image.mode == "RGBA":
        background = Image.new("RGBA", image.size, (*recipe.background, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("L" if recipe.channels == 1 else "RGB")


def _shallow(image: Image.Image) -> Image.Image:
    """At most 8 bits a channel."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(levels, 0, 0xFFFF) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise Unusable("unsupported_mode", "floating-point pixels have no stated range")
    return image


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        converted = ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), srgb, outputMode="RGB")
        assert converted is not None, "only an in-place conversion returns None"
        return converted
    if not profile:
        return image
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode not in _PROFILE_MODES.get(embedded.profile.xcolor_space, ()):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, embedded, srgb, outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _resized(image: Image.Image, recipe: Recipe) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    # Integer arithmetic, rounding half up: the same on every machine.
    size = tuple((2 * side * recipe.size_px + short) // (2 * short) for side in (width, height))
    if size != image.size:
        image = image.resize((size[0], size[1]), _RESAMPLING[recipe.resample])
    if recipe.crop == "none":
        return image
    left, top = (image.width - recipe.size_px) // 2, (image.height - recipe.size_px) // 2
    return image.crop((left, top, left + recipe.size_px, top + recipe.size_px))


def _encoded(image: Image.Image, recipe: Recipe) -> bytes:
    image.info = {}  # no profile, date or comment of the source
    buffer = io.BytesIO()
    if recipe.format == "png":
        image.save(buffer, "PNG", compress_level=6)
    elif recipe.format == "jpeg":
        image.save(buffer, "JPEG", quality=recipe.jpeg_quality, subsampling=0)
    else:
        image.save(buffer, "WEBP", lossless=True, quality=50, method=4)
    return buffer.getvalue()
