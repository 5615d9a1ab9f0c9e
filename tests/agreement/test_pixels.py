"""PSNR, SSIM, MS-SSIM and LPIPS against scikit-image, torchmetrics and piq, to the tolerances of their own tests."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
import torchmetrics.functional.image as tm
import torchvision
from piq.perceptual import ContentLoss
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image.lpips import _LPIPS

from tests.agreement.conftest import signed
from vqgan_core.config import LpipsConfig
from vqgan_core.evaluation import ms_ssim, psnr, ssim
from vqgan_core.losses import Lpips

TORCHMETRICS, PIQ = 1e-4, 1e-4  # what their own tests allow


def hwc(images: Tensor) -> list[np.ndarray]:
    return list((images.double() / 255).permute(0, 2, 3, 1).numpy())


def unit(images: Tensor) -> Tensor:
    """What the libraries are given: fp32, whose grouped convolutions are the only fast ones."""
    return images.float() / 255


def test_psnr(photographs: Tensor, damaged: Tensor) -> None:
    ours = psnr(signed(photographs), signed(damaged))
    pairs = zip(hwc(photographs), hwc(damaged), strict=True)
    assert ours.tolist() == pytest.approx([peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs], rel=1e-6)
    theirs = tm.peak_signal_noise_ratio(
        unit(damaged), unit(photographs), data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3)
    )
    assert ours.mean().item() == pytest.approx(theirs.item(), rel=1e-6)
    others = piq.psnr(unit(damaged), unit(photographs), reduction="none")
    assert ours.tolist() == pytest.approx(others.tolist(), rel=1e-5)


def test_ssim(photographs: Tensor, damaged: Tensor) -> None:
    ours = ssim(signed(photographs), signed(damaged))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for index, (a, b) in enumerate(zip(hwc(photographs), hwc(damaged), strict=True)):
        # scikit-image's Gaussian is 11 px wide; its mean leaves out the same border of 5 px.
        assert ours[index].item() == pytest.approx(structural_similarity(a, b, channel_axis=2, **wang), abs=1e-6)
    theirs = piq.ssim(unit(damaged), unit(photographs), downsample=False, reduction="none")
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=PIQ)
    # torchmetrics averages over reflected borders, too; its map without them is the same.
    _, maps = tm.structural_similarity_index_measure(
        unit(damaged), unit(photographs), sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = maps[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    assert ours.tolist() == pytest.approx(inside.tolist(), abs=TORCHMETRICS)


def test_the_wrong_data_range_is_far_outside_of_these_tolerances(photographs: Tensor, damaged: Tensor) -> None:
    """LlamaGen's SSIM: the tests above would notice."""
    ours = ssim(signed(photographs), signed(damaged)).mean().item()
    wrong = piq.ssim(unit(damaged) / 2, unit(photographs) / 2, downsample=False).item()
    assert wrong - ours > 0.02


def test_ms_ssim(photographs: Tensor, damaged: Tensor) -> None:
    ours = ms_ssim(signed(photographs), signed(damaged))
    theirs = piq.multi_scale_ssim(unit(damaged), unit(photographs), reduction="none")
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=PIQ)
    lightning = tm.multiscale_structural_similarity_index_measure(
        unit(damaged), unit(photographs), data_range=1.0, sigma=1.5, reduction="none"
    )
    assert ours.tolist() == pytest.approx(lightning.tolist(), abs=TORCHMETRICS)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_with_real_weights(net: str, photographs: Tensor, damaged: Tensor, shared_weights: Path) -> None:
    path = shared_weights / f"lpips_{net}_v0.1_full_state.pth"
    few, others = signed(photographs), signed(damaged)
    ours = Lpips(LpipsConfig(net=net, weights=str(path)))(few, others)
    state = torch.load(path, weights_only=True)
    lightning = _LPIPS(net=net, pnet_rand=True, pretrained=False, use_dropout=True).eval()
    named = {torchmetrics_name(name, net): value for name, value in state.items()}
    lightning.load_state_dict({name: value for name, value in named.items() if not name.startswith("scaling")})
    assert ours.tolist() == pytest.approx(lightning(few, others).flatten().tolist(), abs=1e-5)
    assert ours.tolist() == pytest.approx(piqs(state, net)(unit(photographs), unit(damaged)).tolist(), abs=1e-5)
    assert ours.min() > 0.05
    assert abs(piqs(state, net)(few, others) - ours).min() > 0.01, "another range would be noticed"


def torchmetrics_name(name: str, net: str) -> str:
    """Its SqueezeNet counts slices from 0 in a list; its AlexNet has the package's names."""
    return re.sub(r"slice(\d)", lambda m: f"slices.{int(m[1]) - 1}", name) if net == "squeeze" else name


def piqs(state: dict[str, Tensor], net: str) -> ContentLoss:
    """LPIPS as piq computes it: its own class is this loss with VGG from the net, here it has what is at hand."""
    network, layers = {
        "alex": (torchvision.models.alexnet(), (1, 4, 7, 9, 11)),
        "squeeze": (torchvision.models.squeezenet1_1(), (1, 4, 7, 9, 10, 11, 12)),
    }[net]
    wanted = {name.split(".", 2)[2]: value for name, value in state.items() if name.startswith("net.")}
    network.features.load_state_dict(wanted)
    return ContentLoss(
        network.features,
        layers=[str(layer) for layer in layers],
        weights=[state[f"lin{number}.model.1.weight"] for number in range(len(layers))],
        reduction="none",
        normalize_features=True,
    )
