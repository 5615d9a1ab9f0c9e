"""Contract: each kind of image becomes the pixels that the stated order of steps says."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from datasets.config import ShardConfig
from datasets.ingest.canonical import _BY_CONTENT, CanonicalImage, Recipe, Unusable, canonicalize, describe

RECIPE = Recipe.of(ShardConfig(size_px=16, min_size_px=4))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes, recipe: Recipe = RECIPE, name: str = "x.png") -> np.ndarray:
    result = canonicalize(data, name, recipe)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.size == (result.width, result.height)
        assert image.mode == ("L" if recipe.channels == 1 else "RGB") or recipe.format == "webp"
        return np.asarray(image).astype(int)


def reason(data: bytes, recipe: Recipe = RECIPE, name: str = "x.png") -> str:
    with pytest.raises(Unusable) as caught:
        canonicalize(data, name, recipe)
    return caught.value.reason


def flat(mode: str, colour: Any, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)


def test_every_format_that_is_named_is_known_to_pillow() -> None:
    assert {"PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"} <= set(_BY_CONTENT)
    assert not {"EPS", "WMF", "PDF", "PSD"} & set(_BY_CONTENT)


def test_rgb_of_the_right_size_is_stored_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert (pixels(encode(Image.fromarray(noise))) == noise).all()
    for kind in ("png", "webp"):  # both lossless
        assert (pixels(encode(Image.fromarray(noise)), replace(RECIPE, format=kind)) == noise).all()


def test_sixteen_bit_grey_is_shifted_not_clipped() -> None:
    levels = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    assert (pixels(encode(Image.fromarray(levels)))[..., 0] == levels >> 8).all()


@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_sixteen_bit_grey_of_either_byte_order(kind: str) -> None:
    levels = np.full((16, 16), 0x1234, np.uint16)
    assert (pixels(encode(Image.fromarray(levels), kind.upper())) == 0x12).all()
    big = Image.frombytes("I;16B", (16, 16), levels.astype(">u2").tobytes())
    assert (pixels(encode(big, "TIFF")) == 0x12).all()


def test_floating_point_pixels_are_refused() -> None:
    assert reason(encode(flat("F", 0.5), "TIFF")) == "unsupported_mode"


def test_alpha_is_laid_on_the_background() -> None:
    data = encode(flat("RGBA", (200, 0, 0, 0)))  # what is hidden must not show
    assert (pixels(data) == 255).all()
    assert (pixels(data, replace(RECIPE, background=(10, 20, 30))) == [10, 20, 30]).all()
    half = pixels(encode(flat("RGBA", (255, 0, 0, 128))), replace(RECIPE, background=(0, 0, 255)))
    assert abs(half[0, 0] - [128, 0, 127]).max() <= 1
    assert (pixels(encode(flat("LA", (0, 0)))) == 255).all()


def test_transparent_palettes_and_colour_keys_are_alpha() -> None:
    palette = flat("P", 1)
    palette.putpalette([0, 0, 0, 200, 10, 10])
    assert (pixels(encode(palette))[0, 0] == [200, 10, 10]).all()
    assert (pixels(encode(palette, transparency=1)) == 255).all()
    assert (pixels(encode(flat("RGB", (5, 6, 7)), transparency=(5, 6, 7))) == 255).all()


def test_exif_orientation_is_applied() -> None:
    image = flat("RGB", (0, 0, 0), (16, 32))
    image.paste((255, 255, 255), (0, 0, 16, 16))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    turned = pixels(encode(image, exif=exif), replace(RECIPE, crop="none"))
    assert turned.shape == (16, 32, 3)
    assert turned[:, 20:].mean() == 255
    assert turned[:, :12].mean() == 0


def test_cmyk_grey_one_bit_and_lab() -> None:
    assert abs(pixels(encode(flat("CMYK", (0, 255, 255, 0)), "JPEG"))[0, 0] - [255, 0, 0]).max() <= 3
    assert (pixels(encode(flat("L", 77))) == 77).all()
    assert (pixels(encode(flat("1", 1))) == 255).all()
    assert abs(pixels(encode(flat("LAB", (255, 128, 128)), "TIFF"))[0, 0] - 255).max() <= 2
    assert (pixels(encode(flat("RGB", (255, 255, 255))), replace(RECIPE, channels=1)) == 255).all()


def test_an_icc_profile_is_converted_to_srgb() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")  # red means green
    assert abs(pixels(encode(flat("RGB", (255, 0, 0)), icc_profile=swapped))[0, 0] - [0, 255, 0]).max() <= 1
    see_through = replace(RECIPE, background=(255, 0, 0))  # the background is sRGB already: no profile touches it
    assert (pixels(encode(flat("RGBA", (255, 0, 0, 0)), icc_profile=swapped), see_through)[0, 0] == [255, 0, 0]).all()
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    assert abs(pixels(encode(image, icc_profile=srgb)) - np.asarray(image).astype(int)).max() <= 1


def test_a_broken_or_unfitting_profile_is_ignored() -> None:
    image = flat("RGB", (10, 20, 30))
    assert (pixels(encode(image, icc_profile=b"no profile at all")) == [10, 20, 30]).all()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (pixels(encode(flat("L", 99), icc_profile=srgb)) == 99).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [flat("RGB", colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encode(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert (pixels(data)[0, 0] == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 20), (33, 16)), ((20, 40), (16, 33)), ((16, 16), (16, 16)), ((7, 5), (22, 16))]
)
def test_the_short_side_is_resized_and_the_aspect_kept(size: tuple[int, int], expected: tuple[int, int]) -> None:
    result = canonicalize(encode(flat("RGB", 0, size)), "x", replace(RECIPE, crop="none"))
    exact = max(size) * 16 / min(size)
    assert min(result.width, result.height) == 16
    assert abs(max(result.width, result.height) - exact) <= 0.5
    assert (result.width > result.height) == (expected[0] > expected[1])
    cropped = canonicalize(encode(flat("RGB", 0, size)), "x", RECIPE)
    assert (cropped.width, cropped.height) == (16, 16)


def test_the_crop_is_at_the_centre() -> None:
    image = Image.fromarray(np.repeat(np.arange(48, dtype=np.uint8)[None], 16, 0))
    assert pixels(encode(image))[0, :, 0].tolist() == list(range(16, 32))


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_shrinking_with_a_filter_is_antialiased(resample: str) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    result = pixels(encode(Image.fromarray(stripes)), replace(RECIPE, resample=resample))
    inner = result[4:-4, 4:-4]
    assert (set(np.unique(inner)) <= {0, 255}) == (resample == "nearest")
    assert resample == "nearest" or abs(inner - 127.5).max() < 30


def test_size_limits() -> None:
    assert reason(encode(flat("L", 0, (3, 50)))) == "too_small"
    assert reason(encode(flat("L", 0, (10, 201)))) == "extreme_aspect"
    assert reason(encode(flat("L", 0, (200, 200))), replace(RECIPE, max_pixels=39_999)) == "too_large"


def test_a_bomb_is_refused_from_its_header() -> None:
    data = encode(flat("1", 0, (20_000, 20_000)))  # 400 megapixels in 50 KB
    assert reason(data) == "too_large"


def test_what_is_no_image() -> None:
    assert reason(b"") == "empty"
    for data in (b"<html></html>", bytes(5000), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        assert reason(data) == "not_an_image"


def test_the_name_does_not_matter_but_for_tga() -> None:
    data = encode(flat("RGB", (1, 2, 3)), "TGA")
    assert reason(data, name="x.png") == "not_an_image"
    assert (pixels(data, name="x.TGA") == [1, 2, 3]).all()
    assert (pixels(encode(flat("L", 9)), name="wrong.jpg") == 9).all()


def test_a_truncated_file_is_not_completed() -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG"):
        data = encode(noise, kind)
        with pytest.raises((OSError, SyntaxError)):
            canonicalize(data[: len(data) // 2], "x", RECIPE)


def test_metadata_of_the_source_is_not_kept() -> None:
    exif = Image.Exif()
    exif[0x013B] = "secret artist"
    data = encode(flat("RGB", (1, 2, 3)), "JPEG", exif=exif, comment=b"secret comment")
    for kind in ("png", "jpeg", "webp"):
        assert b"secret" not in canonicalize(data, "x", replace(RECIPE, format=kind)).data


def test_equal_input_gives_equal_bytes() -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    for kind in ("png", "jpeg", "webp"):
        recipe = replace(RECIPE, format=kind)
        results = {canonicalize(encode(noise), "x", recipe) for _ in range(3)}
        assert len(results) == 1
        assert isinstance(results.pop(), CanonicalImage)


def test_errors_are_described_without_addresses() -> None:
    text = describe(OSError(f"cannot identify {io.BytesIO()!r}\nsecond line"))
    assert text == "OSError: cannot identify the file second line"
