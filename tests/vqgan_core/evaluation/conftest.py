"""Real images for metrics: scikit-learn's digits at 32 px, and a coloured photograph of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from einops import rearrange
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """1,797 grey images in [-1, 1], `n 1 32 32`, in a fixed random order, and their labels."""
    bunch = load_digits()
    small = [Image.fromarray(np.uint8(image * 255 / 16)) for image in bunch.images]
    pixels = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)) for image in small])
    order = np.random.default_rng(0).permutation(len(pixels))
    images = torch.from_numpy(pixels[order]).unsqueeze(1).float() / 127.5 - 1
    return images, torch.from_numpy(bunch.target[order])


@pytest.fixture(scope="session")
def photograph() -> Tensor:
    """A cat in colour, in [-1, 1], `1 3 150 200`."""
    pixels = torch.from_numpy(skimage.data.chelsea()[::2, 50:450:2].copy())
    return rearrange(pixels, "h w c -> 1 c h w").float() / 127.5 - 1
