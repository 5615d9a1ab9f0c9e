"""How close reconstructions are to their originals, pixel by pixel: L1, PSNR and SSIM.

Axes: `B batch, C channels, H×W pixels`. Every function returns one value an image (`B`), in fp64.

Sources: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity"
(2004), eq. 13, with the authors' 11×11 Gaussian window of σ 1.5 and borders left out.

Conventions, each of which moves the numbers:
- Images come in [-1, 1] and are clamped to it. L1 is on that scale; PSNR and SSIM are on [0, 1] with a data range of 1.
  LlamaGen passes a data range of 2 for images in [0, 1], which inflates its SSIM by about 0.1.
- PSNR is the mean of the images' decibels; decibels of the pooled error are lower (24.2 against 25.0 dB on Kodak).
- Colour channels count equally; nothing is converted to luminance. Nothing is rounded to 8 bits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SSIM_WINDOW_PX", "l1", "psnr", "ssim", "ssim_maps", "to_unit"]

SSIM_WINDOW_PX = 11
_SSIM_SIGMA = 1.5
_SSIM_C1 = 0.01**2  # (K1 · L)² with data range L = 1
_SSIM_C2 = 0.03**2  # (K2 · L)²
_SMALLEST_MSE = 1e-10  # identical images count as 100 dB instead of infinitely many


def l1(images: Float[Tensor, "B C H W"], reconstructions: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Mean absolute difference of each image, on the [-1, 1] scale."""
    _require_pairs(images, reconstructions)
    return 2 * (to_unit(images) - to_unit(reconstructions)).abs().mean(dim=(1, 2, 3))


def psnr(images: Float[Tensor, "B C H W"], reconstructions: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of each image in decibels, at most 100."""
    _require_pairs(images, reconstructions)
    error = (to_unit(images) - to_unit(reconstructions)).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp_min(_SMALLEST_MSE).log10()


def ssim(images: Float[Tensor, "B C H W"], reconstructions: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Structural similarity of each image: mean over channels and over all places where the window fits.

    Raises:
        ValueError: the images are smaller than the 11×11 window.
    """
    _require_pairs(images, reconstructions)
    height, width = images.shape[-2:]
    if min(height, width) < SSIM_WINDOW_PX:
        raise ValueError(
            f"SSIM looks through an {SSIM_WINDOW_PX}×{SSIM_WINDOW_PX} px window, the images are {height}×{width} px; "
            "leave SSIM out for images of this size"
        )
    luminance, structure = ssim_maps(to_unit(images), to_unit(reconstructions))
    return (luminance * structure).mean(dim=(1, 2, 3))


def ssim_maps(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
    """Luminance, and contrast times structure, wherever the window fits on images in [0, 1]."""
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x.square()
    var_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x.square() + mean_y.square() + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return luminance, structure


def _require_pairs(images: Tensor, reconstructions: Tensor) -> None:
    if images.shape != reconstructions.shape or images.ndim != 4:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, reconstructions {tuple(reconstructions.shape)}; "
            "expected the same B C H W"
        )


def to_unit(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Images from [-1, 1] to [0, 1], clamped, in fp64."""
    return (images.double().clamp(-1, 1) + 1) / 2


def _gaussian_window(device: torch.device) -> Float[Tensor, " window"]:
    offsets = torch.arange(SSIM_WINDOW_PX, dtype=torch.float64, device=device) - SSIM_WINDOW_PX // 2
    weights = torch.exp(-offsets.square() / (2 * _SSIM_SIGMA**2))
    return weights / weights.sum()


def _blur(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
    """Weighted mean under the window wherever it fits: a Gaussian separates into rows and columns."""
    window = _gaussian_window(maps.device)
    for axis in (-2, -1):
        size = maps.shape[axis] - SSIM_WINDOW_PX + 1
        blurred = torch.zeros_like(maps.narrow(axis, 0, size))
        for offset, weight in enumerate(window.tolist()):
            blurred.add_(maps.narrow(axis, offset, size), alpha=weight)
        maps = blurred
    return maps
