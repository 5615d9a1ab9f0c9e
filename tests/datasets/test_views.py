"""Contract: a view shows the same window of a record in every run, and says which."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from datasets.errors import TokenError
from datasets.images import Window
from datasets.token_file import CROP_COLUMNS, TokenMeta, TokenRows, read_token_file, token_parquet, without_others
from datasets.views import VIEWS, RandomView, view_of
from vqgan_core.config import ConfigError, EncodeConfig
from vqgan_core.config.views import RandomViewsConfig, ViewName

SHAPE, SIZE = (90, 120), (32, 32)


def drawn(config: RandomViewsConfig, count: int = 2000, number: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Windows of many records."""
    keys = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64).tolist()
    return np.array([RandomView(config, number).window(shape, SIZE, key).row() for key in keys])


def test_ten_crop_is_short_for_all_places() -> None:
    short, long = EncodeConfig.load(None, {"views": ["ten_crop"]}), EncodeConfig(views=get_args(ViewName))
    assert short == long
    assert len(short.views) == 10
    assert "random_views" not in short.recipe()
    with pytest.raises(ConfigError, match="each can be named once"):
        EncodeConfig.load(None, {"views": ["center", "ten_crop"]})
    corners = [VIEWS[name].window(SHAPE, SIZE) for name in ("top_left", "bottom_right", "center")]
    assert [(window.top, window.left) for window in corners] == [(0, 0), (58, 88), (29, 44)]


def test_random_views_are_named_by_number() -> None:
    config = EncodeConfig(views=("center",), random_views=RandomViewsConfig(count=2))
    assert config.all_views == ("center", "random_00", "random_01")
    assert view_of("random_01", config) == RandomView(RandomViewsConfig(count=2), 1)
    with pytest.raises(ConfigError, match="0 < least ≤ largest ≤ 1"):
        EncodeConfig.load(None, {"random_views.scale": [0.5, 1.5]})


def test_a_window_depends_on_seed_number_and_key_alone() -> None:
    config = RandomViewsConfig()
    whole = drawn(config)
    assert np.array_equal(whole, drawn(config))
    assert np.array_equal(whole, drawn(RandomViewsConfig(count=7)))
    for others in (drawn(config, number=1), drawn(RandomViewsConfig(seed=1))):
        assert (whole == others).all(axis=1).mean() < 0.01
    # Written down: a changed stream would make other tokens under the same fingerprint.
    assert RandomView(config, 0).window(SHAPE, SIZE, 0x0123456789ABCDEF).row() == (0, 3, 90, 105, 1)


@pytest.mark.parametrize("config", [RandomViewsConfig(), RandomViewsConfig(scale=(0.08, 0.4), aspect_ratio=(0.5, 2.0))])
def test_windows_are_inside_and_within_bounds(config: RandomViewsConfig) -> None:
    top, left, height, width, mirrored = drawn(config).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= SHAPE[0]).all()
    assert (left + width <= SHAPE[1]).all()
    share, ratio = height * width / (SHAPE[0] * SHAPE[1]), width / height
    assert config.scale[0] * 0.95 < share.min() < share.max() < config.scale[1] * 1.05
    assert config.aspect_ratio[0] * 0.95 < ratio.min() < ratio.max() < config.aspect_ratio[1] * 1.05
    assert abs(mirrored.mean() - 0.5) < 0.05


def test_windows_are_distributed_as_torchvisions() -> None:
    config = RandomViewsConfig(scale=(0.08, 1.0), horizontal_flip=False)
    ours = drawn(config)
    torch.manual_seed(0)
    image = torch.zeros(3, *SHAPE)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)])
    assert not ours[:, 4].any()
    for quantile in (0.1, 0.5, 0.9):
        assert np.quantile(ours[:, :4], quantile, axis=0) == pytest.approx(np.quantile(theirs, quantile, axis=0), abs=4)


@pytest.mark.parametrize(("shape", "expected"), [((20, 200), (20, 27)), ((200, 20), (27, 20))])
def test_where_nothing_fits_it_is_the_largest_in_the_centre(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    window = RandomView(RandomViewsConfig(scale=(1.0, 1.0)), 0).window(shape, SIZE, 1)
    assert (window.height, window.width) == expected
    assert (window.top, window.left) == ((shape[0] - expected[0]) // 2, (shape[1] - expected[1]) // 2)


def test_a_window_is_cut_and_resized_as_pillow_does_it() -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    window = Window(10, 20, 48, 60, mirrored=True, resized=SIZE)
    expected = Image.fromarray(pixels).crop((20, 10, 80, 58)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(window.cut(pixels), np.asarray(expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    labels = chance.choice(np.array([3, 200], np.uint8), SHAPE)
    assert set(np.unique(window.cut(labels))) == {3, 200}
    deep = (pixels[..., :1].astype(np.uint16) + 1) * 250
    assert window.cut(deep).dtype == np.uint16
    flat = np.full((*SHAPE, 1), 65535, np.uint16)
    assert (window.cut(flat) == 65535).all()


META = TokenMeta(
    tokenizer_fingerprint="f", tokenizer_digest="d", codebook_size=8, factor=4, height=1, width=2, crops={"seed": 0}
)
ROWS = TokenRows(
    "train", "random_00", ["0a", "0b"], [0, 1], ["x", "y"], np.array([[1, 2], [3, 4]]),
    crops=np.array([[1, 2, 30, 40, 0], [5, 6, 70, 80, 1]]),
)  # fmt: skip


def test_a_token_file_keeps_the_windows() -> None:
    data = token_parquet(META, ROWS)
    file = read_token_file(data, "a")
    assert file.meta == META
    assert file.crops is not None
    assert file.crops.tolist() == [[1, 2, 30, 40, 0], [5, 6, 70, 80, 1]]
    cut = read_token_file(without_others(data, "a", {"0b"}), "a")
    assert cut.crops is not None
    assert cut.crops.tolist() == [[5, 6, 70, 80, 1]]
    assert len(CROP_COLUMNS) == 5
    with pytest.raises(TokenError, match="'windows': 0"):
        token_parquet(META, TokenRows("train", "random_00", ["0a"], [0], ["x"], np.array([[1, 2]])))
