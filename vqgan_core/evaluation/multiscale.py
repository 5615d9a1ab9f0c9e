"""MS-SSIM: structural similarity at five scales, which weighs errors as eyes at different distances do.

Axes: `B batch, C channels, H×W pixels`.

Source: Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment" (2003), eq. 7 with
the authors' weights: contrast and structure at each scale, luminance at the coarsest alone. Between scales images are
halved by 2×2 means. Window, constants and range are those of SSIM; a scale's negative value counts as 0, as in every
implementation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vqgan_core.evaluation.reconstruction import SSIM_WINDOW_PX, ssim_maps, to_unit

__all__ = ["MS_SSIM_MIN_PX", "ms_ssim"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_PX = (SSIM_WINDOW_PX - 1) * 2 ** (len(_WEIGHTS) - 1) + 1
"""Below this the window does not fit at the coarsest scale."""


def ms_ssim(images: Float[Tensor, "B C H W"], reconstructions: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Of each image: mean over channels of the product over scales.

    Raises:
        ValueError: the shapes differ, or the images are smaller than 161 px.
    """
    if images.shape != reconstructions.shape or min(images.shape[-2:]) < MS_SSIM_MIN_PX:
        raise ValueError(
            f"MS-SSIM compares images of equal shape and at least {MS_SSIM_MIN_PX} px, got {tuple(images.shape)} and "
            f"{tuple(reconstructions.shape)}; leave it out for smaller ones"
        )
    x, y = to_unit(images), to_unit(reconstructions)
    product = torch.ones(images.shape[:2], dtype=torch.float64, device=images.device)
    for scale, weight in enumerate(_WEIGHTS):
        luminance, structure = ssim_maps(x, y)
        coarsest = scale == len(_WEIGHTS) - 1
        value = (luminance * structure if coarsest else structure).mean(dim=(2, 3))
        product = product * value.clamp_min(0) ** weight
        if not coarsest:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product.mean(dim=1)
