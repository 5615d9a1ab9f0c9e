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

What is kept beside the image (`canonical_planes`) goes through steps 1, 2, 3, 4 and 9 with it.

Keep this module's imports light: every child process pays for them, and torch must not be among them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from datasets.ingest.canonical_planes import PlaneRecipe, encoded_plane, levels_of, opacity_of
from datasets.ingest.geometry import resized
from datasets.ingest.perceptual import perceptual_hash
from datasets.ingest.unusable import Unusable, describe

if TYPE_CHECKING:
    from datasets.config import ShardConfig

__all__ = ["CanonicalImage", "Recipe", "Unusable", "canonicalize", "describe"]

Image.init()  # registers all formats; only these are ever opened. Each has a magic number; MPO opens as JPEG.
_WANTED = ("AVIF", "BMP", "CUR", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI")
_BY_CONTENT = [name for name in (*_WANTED, "TIFF", "WEBP") if name in Image.OPEN]  # AVIF came with Pillow 11.3
_PROFILE_MODES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}


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
    planes: tuple[PlaneRecipe, ...] = ()
    hash: str | None = None
    """Kind of perceptual hash; None: none."""

    @classmethod
    def of(cls, config: ShardConfig) -> Recipe:
        """Take the fields of the same names, and what is kept beside an image in the order of its names."""
        planes = tuple(PlaneRecipe.of(name, config.pairs[name]) for name in sorted(config.pairs))
        near = config.near_duplicates
        same = {name: getattr(config, name) for name in cls.__slots__ if name not in ("planes", "hash")}
        return cls(**same, planes=planes, hash=None if near is None else near.hash)


@dataclass(frozen=True, slots=True)
class CanonicalImage:
    """What a corpus stores of an image."""

    data: bytes
    width: int
    height: int
    planes: tuple[tuple[str, bytes], ...] = ()
    """Names and PNG bytes of what is kept beside it, by name."""
    perceptual_hash: int | None = None


def canonicalize(
    data: bytes, name: str, recipe: Recipe, partners: Mapping[str, tuple[str, bytes]] = MappingProxyType({})
) -> CanonicalImage:
    """Decode, normalise, resize and encode one image and what is kept beside it.

    Sets Pillow's process-wide pixel limit, which is why it belongs into a child process.

    Args:
        data: the image's file.
        name: its name.
        recipe: what to make of it.
        partners: names and content of its second files, by the name of the pair.

    Raises:
        Unusable: for a stated reason.
        Exception: whatever Pillow raises on a damaged file; the caller quarantines it as undecodable.
    """
    with _loaded(data, name, recipe) as image:
        pixels = _normalised(image, recipe)
        planes = tuple((plane.name, _plane(plane, image, pixels.size, partners, recipe)) for plane in recipe.planes)
    pixels = resized(pixels, recipe.size_px, recipe.crop, recipe.resample)
    hashed = None if recipe.hash is None else perceptual_hash(pixels, recipe.hash)
    return CanonicalImage(_encoded(pixels, recipe), pixels.width, pixels.height, planes, hashed)


@contextmanager
def _loaded(data: bytes, name: str, recipe: Recipe) -> Iterator[Image.Image]:
    """An image whose pixels are there, within the limits."""
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
                yield image
        except UnidentifiedImageError:
            raise Unusable("not_an_image", "no image format that is read here") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Unusable("too_large", describe(error)) from None


def _plane(
    plane: PlaneRecipe,
    image: Image.Image,
    size: tuple[int, int],
    partners: Mapping[str, tuple[str, bytes]],
    recipe: Recipe,
) -> bytes:
    """What is kept of one plane of an image that is `size` wide and high once it is oriented."""
    if plane.alpha_threshold is not None:
        return encoded_plane(opacity_of(image, plane), plane, recipe.size_px, recipe.crop)
    name, data = partners[plane.name]
    try:
        with _loaded(data, name, recipe) as second:
            levels = levels_of(second, plane)
    except Unusable as error:
        own = error.reason in ("partner_mode", "label_outside")
        reason, detail = (error.reason, error.detail) if own else ("partner_unusable", f"{plane.name}: {error.detail}")
        raise Unusable(reason, detail) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise Unusable("partner_unusable", f"{plane.name}: {describe(error)}") from None
    if levels.shape[1::-1] != size:
        given = f"{levels.shape[1]}×{levels.shape[0]}"
        raise Unusable("partner_size", f"{plane.name}: {given} pixels, the image has {size[0]}×{size[1]}")
    return encoded_plane(levels, plane, recipe.size_px, recipe.crop)


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
