"""Real photographs, and the same ones damaged: what metrics are agreed on."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SIZE_PX = 192


@pytest.fixture(scope="session")
def photographs() -> Tensor:
    """Crops of scikit-image's colour photographs as bytes, `3 3 192 192`."""
    pictures = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
    crops = [picture[40 : 40 + SIZE_PX, 90 : 90 + SIZE_PX] for picture in pictures]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def damaged(photographs: Tensor) -> Tensor:
    """The photographs, four times smaller and back, as bytes."""
    small = interpolate(photographs.float(), scale_factor=0.25, mode="area")
    large = interpolate(small, size=(SIZE_PX, SIZE_PX), mode="bicubic", align_corners=False)
    return large.round().clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="session")
def feature_sets() -> tuple[Tensor, Tensor]:
    """Features of two overlapping distributions: 300 real, 260 judged, 64 wide, not negative, in fp32."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(64, 64, generator=generator) / 8
    real = torch.randn(300, 64, generator=generator) @ mixing
    judged = torch.randn(260, 64, generator=generator) @ mixing * 1.1 + 0.1
    return real.relu(), judged.relu()


def signed(images: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return images.float() / 127.5 - 1
