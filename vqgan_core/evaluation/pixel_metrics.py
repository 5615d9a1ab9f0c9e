"""Scores of reconstructions, image by image, as metrics: L1, PSNR, SSIM, MS-SSIM and, with weights, LPIPS.

Axes: `B batch, C channels, H×W pixels`.

A set's value is the mean over its images, summed without rounding (`math.fsum`): neither batches nor their order nor
the number of processes can change a digit. Each comes with its 95 % bootstrap interval over images.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from vqgan_core.evaluation.bootstrap import mean_interval
from vqgan_core.evaluation.metric import Metric
from vqgan_core.evaluation.multiscale import MS_SSIM_MIN_PX, ms_ssim
from vqgan_core.evaluation.reconstruction import SSIM_WINDOW_PX, l1, psnr, ssim
from vqgan_core.losses import Lpips

__all__ = ["exact_mean", "mean_metric", "reconstruction_metrics"]

_UNIT = {"value_range": "[0, 1], data range 1, clamped, not rounded", "higher_is_better": True}
_SIGNED = {"value_range": "[-1, 1], clamped, not rounded", "higher_is_better": False}
_WINDOW = "11×11 Gaussian window, σ 1.5, borders left out, mean over channels"

#: Name → measure of pairs, smallest side it takes, and what a reader has to know.
_MEASURES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int, dict[str, Any]]] = {
    "L1": (l1, 1, _SIGNED),
    "PSNR": (psnr, 1, {**_UNIT, "unit": "dB", "note": "mean of the images' decibels, 100 at most"}),
    "SSIM": (ssim, SSIM_WINDOW_PX, {**_UNIT, "note": _WINDOW}),
    "MS-SSIM": (ms_ssim, MS_SSIM_MIN_PX, {**_UNIT, "note": f"five scales, {_WINDOW}"}),
}


def exact_mean(values: Tensor) -> float:
    """The mean of values, as if summed with unlimited precision: the same in every order."""
    return math.fsum(values.double().flatten().tolist()) / values.numel()


def mean_metric(name: str, values: Tensor, **about: Any) -> Metric:
    """A metric that is a mean over images, with its interval.

    Raises:
        ValueError: an image has no number.
    """
    if broken := int((~torch.isfinite(values)).sum()):
        raise ValueError(f"{name}: {broken} of {len(values)} images give NaN or Inf: did a training diverge?")
    low, high = mean_interval(values)
    return Metric(name=name, value=exact_mean(values), low=low, high=high, n=len(values), **about)


def reconstruction_metrics(
    pairs: Iterable[tuple[Tensor, Tensor]], *, reference: str, lpips: Lpips | None = None
) -> list[Metric]:
    """Score batches of (images, reconstructions); what any image is too small for is left out.

    Args:
        pairs: batches in [-1, 1], `B C H W` each; sizes may differ between batches.
        reference: name of the originals, with the fingerprint of their artifact.
        lpips: the perceptual distance, if it is to be measured.

    Raises:
        ValueError: there is no image, or the two halves of a pair differ in shape.
    """
    found: dict[str, list[Tensor]] = {}
    num_images, smallest = 0, math.inf
    for images, reconstructions in pairs:
        num_images += len(images)
        smallest = min(smallest, *images.shape[-2:])
        for name, (measure, least, _) in _MEASURES.items():
            if min(images.shape[-2:]) >= least:
                found.setdefault(name, []).append(measure(images, reconstructions).cpu())
        if lpips is not None:
            pair = (images.clamp(-1, 1), reconstructions.clamp(-1, 1))  # as they are shown, and as others save them
            found.setdefault("LPIPS", []).append(lpips(*pair).detach().cpu())
    if not num_images:
        raise ValueError("there is no image to score: the reference set is empty")
    common = {"reference": reference, "library": f"torch {torch.__version__}"}
    metrics = [
        mean_metric(name, torch.cat(found[name]), **about, **common)
        for name, (_, least, about) in _MEASURES.items()
        if smallest >= least
    ]
    return metrics if lpips is None else [*metrics, _lpips_metric(torch.cat(found["LPIPS"]), lpips, reference)]


def _lpips_metric(values: Tensor, lpips: Lpips, reference: str) -> Metric:
    net = lpips.config.net
    return mean_metric(
        f"LPIPS-{net}", values, higher_is_better=False, reference=reference, extractor=f"lpips 0.1 {net}",
        extractor_sha256=lpips.weights_sha256(), value_range="[-1, 1], clamped, not rounded",
        library=f"lpips {importlib.metadata.version('lpips')}, torch {torch.__version__}",
    )  # fmt: skip
