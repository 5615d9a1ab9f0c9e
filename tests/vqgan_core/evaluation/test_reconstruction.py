"""L1, PSNR and SSIM against scikit-image on real pictures, and the conventions that move them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.nn.functional import interpolate

from vqgan_core.config import LpipsConfig
from vqgan_core.evaluation import l1, psnr, reconstruction_metrics, ssim
from vqgan_core.losses import Lpips


def blurred(images: Tensor) -> Tensor:
    """A bad reconstruction: four times smaller and back."""
    small = interpolate(images, scale_factor=0.25, mode="bilinear", antialias=True)
    return interpolate(small, size=images.shape[-2:], mode="bilinear").clamp(-1, 1)


def on_unit(images: Tensor) -> NDArray[np.float64]:
    """The same pixels in [0, 1]."""
    pixels: NDArray[np.float64] = ((images.double() + 1) / 2).numpy()
    return pixels


def reference_ssim(image: Tensor, other: Tensor, data_range: float = 1.0) -> float:
    return float(
        structural_similarity(
            on_unit(image),
            on_unit(other),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=data_range,
            channel_axis=0,
        )
    )


def test_ssim_is_scikit_images_on_grey_and_colour(digits: tuple[Tensor, Tensor], photograph: Tensor) -> None:
    for images in (digits[0][:8], photograph):
        others = blurred(images)
        expected = [reference_ssim(image, other) for image, other in zip(images, others, strict=True)]
        assert ssim(images, others).tolist() == pytest.approx(expected, abs=1e-12)


def test_ssim_does_not_assume_a_data_range_of_two(photograph: Tensor) -> None:
    """LlamaGen's defect: data_range=2 for images in [0, 1] makes a blurred picture look better than it is."""
    other = blurred(photograph)
    inflated = reference_ssim(photograph[0], other[0], data_range=2.0)
    ours = ssim(photograph, other).item()
    assert inflated - ours > 0.05
    assert ours == pytest.approx(reference_ssim(photograph[0], other[0]), abs=1e-12)


def test_psnr_is_scikit_images(digits: tuple[Tensor, Tensor], photograph: Tensor) -> None:
    for images in (digits[0][:8], photograph):
        others = blurred(images)
        pairs = zip(on_unit(images), on_unit(others), strict=True)
        expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
        assert psnr(images, others).tolist() == pytest.approx(expected, abs=1e-9)


def test_psnr_averages_decibels_not_errors() -> None:
    images = torch.zeros(2, 1, 12, 12)
    others = images + torch.tensor([0.02, 0.2]).reshape(2, 1, 1, 1)  # 0.01 and 0.1 on [0, 1]: 40 and 20 dB
    values = {metric.name: metric.value for metric in reconstruction_metrics([(images, others)], reference="r")}
    assert values["PSNR"] == pytest.approx(30, abs=1e-4)
    assert values["L1"] == pytest.approx(0.11, abs=1e-6)


def test_identical_images_have_finite_values(photograph: Tensor) -> None:
    assert psnr(photograph, photograph).item() == pytest.approx(100)
    assert ssim(photograph, photograph).item() == pytest.approx(1)
    assert l1(photograph, photograph).item() == 0


def test_what_a_decoder_overshoots_is_clamped() -> None:
    white = torch.ones(1, 3, 16, 16)
    assert l1(white, 3 * white).item() == 0
    assert psnr(white, 3 * white).item() == pytest.approx(100)


def test_lpips_sees_what_a_person_would(shared_weights: Path) -> None:
    path = shared_weights / "lpips_squeeze_v0.1_full_state.pth"
    lpips = Lpips(LpipsConfig(net="squeeze", weights=str(path)))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    bright = images + 0.8
    values = [
        reconstruction_metrics([(images, others)], reference="r", lpips=lpips)[-1]
        for others in (bright, bright.clamp(-1, 1))
    ]
    assert values[0] == values[1]
    assert "clamped" in values[0].value_range


def test_a_broken_reconstruction_is_told_as_one() -> None:
    images = torch.zeros(3, 1, 16, 16)
    broken = images.clone()
    broken[1, 0, 4, 4] = torch.nan
    with pytest.raises(ValueError, match=r"^L1: 1 of 3 images give NaN or Inf: did a training diverge\?"):
        reconstruction_metrics([(images, broken)], reference="r")


def test_the_cut_into_batches_changes_nothing(digits: tuple[Tensor, Tensor]) -> None:
    images, others = digits[0][:50], blurred(digits[0][:50])
    whole = reconstruction_metrics([(images, others)], reference="r")
    parts = zip(torch.split(images, 7), torch.split(others, 7), strict=True)
    assert reconstruction_metrics(parts, reference="r") == whole
    assert {metric.n for metric in whole} == {50}
    assert [metric.name for metric in whole] == ["L1", "PSNR", "SSIM"]


def test_small_images_have_no_ssim_and_say_why() -> None:
    images = torch.zeros(2, 1, 8, 16)
    with pytest.raises(ValueError, match=r"11×11 px window, the images are 8×16 px"):
        ssim(images, images)
    names = [metric.name for metric in reconstruction_metrics([(images, images)], reference="r")]
    assert names == ["L1", "PSNR"]


def test_shapes_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 16, 16\), reconstructions \(1, 3, 16, 16\)"):
        psnr(torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="no image to score"):
        reconstruction_metrics([], reference="r")


def test_half_precision_images_are_judged_in_fp64(photograph: Tensor) -> None:
    exact = psnr(photograph, blurred(photograph)).item()
    rough = psnr(photograph.bfloat16(), blurred(photograph).bfloat16())
    assert rough.dtype == torch.float64
    assert rough.item() == pytest.approx(exact, abs=0.1)
    assert np.isfinite(rough.item())
