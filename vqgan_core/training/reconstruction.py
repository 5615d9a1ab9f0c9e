"""How well a tokenizer reconstructs a fixed set of images, and how much of its codebook it uses there.

Axes: B batch, C channels (of label maps, classes), H×W image, K entries.

Every image counts the same, whatever the batches' sizes and whichever process has it. Sums stay on the device and are
fetched once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core import distributed
from vqgan_core.config.tokenizer import BOTTOM
from vqgan_core.losses import PixelKind, logit_laplace_nll, pixel_loss
from vqgan_core.quantizers import CodeUsage, code_histogram
from vqgan_core.tokenizer import TokenizerOutput

_PerImage = dict[str, Float[Tensor, " B"]]


class ReconstructionTotals:
    """Sums over a validation set.

    Metrics: `l1` (mean absolute difference on [-1, 1]), `psnr` (mean of the images' decibels, clamped to the range
    of images, peak 2), `quantizer` (its loss), `perceptual` (if there is a network), `usage` (fraction of the entries
    that occur), `perplexity` and `dead_codes`, of a top level with the ending `_top`. Of label maps, instead of the
    first two: `bce` or `cross_entropy`, and `pixel_accuracy` (share of pixels whose most likely class is the right
    one). Of a decoder that gives distributions, also `logit_laplace` (nats a value).

    Args:
        codebook_sizes: K of each level, by its column's name.
        perceptual: the perceptual network, or None.
        device: where the images are.
        pixel: the config's pixel distance, which tells images from label maps.
    """

    def __init__(
        self,
        codebook_sizes: Mapping[str, int],
        perceptual: nn.Module | None,
        device: torch.device,
        pixel: PixelKind = "l1",
    ) -> None:
        self._perceptual = perceptual
        self._pixel = pixel
        self._histograms = {
            name: torch.zeros(size, dtype=torch.int64, device=device) for name, size in codebook_sizes.items()
        }
        self._of_label_maps = pixel in ("bce", "cross_entropy")
        self._names: list[str] = [pixel, "pixel_accuracy"] if self._of_label_maps else ["l1", "psnr"]
        self._names += ["logit_laplace"] if pixel == "logit_laplace" else []
        self._names += ["quantizer"] if perceptual is None else ["quantizer", "perceptual"]
        self._sums = torch.zeros(len(self._names), device=device)
        self._num_images = 0

    @torch.no_grad()
    def add(self, images: Float[Tensor, "B C H W"], output: TokenizerOutput) -> None:
        """Count a batch."""
        reconstruction = output.reconstruction.float()
        values = self._differences(images, reconstruction) | {"quantizer": output.loss.expand(len(images))}
        if output.statistics is not None:
            values["logit_laplace"] = logit_laplace_nll(images, output.statistics).mean(dim=(1, 2, 3))
        if self._perceptual is not None:
            values["perceptual"] = self._perceptual(images, reconstruction)
        self._sums += torch.stack([values[name].sum().float() for name in self._names])
        for name, level in output.levels.items():
            self._histograms[name] += code_histogram(level.indices, len(self._histograms[name]))
        self._num_images += len(images)

    def _differences(self, images: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]) -> _PerImage:
        if not self._of_label_maps:
            l1 = (images - reconstruction).abs().mean(dim=(1, 2, 3))
            return {"l1": l1, "psnr": _psnr(images, reconstruction.clamp(-1, 1))}
        right = images.argmax(dim=1) == reconstruction.argmax(dim=1)
        entropy = pixel_loss(self._pixel, reconstruction, images)
        return {self._pixel: entropy.expand(len(images)), "pixel_accuracy": right.float().mean(dim=(1, 2))}

    def metrics(self) -> dict[str, float]:
        """The means over all processes' images, which all processes have to ask for.

        Raises:
            ValueError: there was no image.
        """
        num_images = int(distributed.total(torch.tensor(self._num_images)))
        if not num_images:
            raise ValueError("the validation set is empty: a tokenizer needs held-out images to be measured on")
        totals = distributed.total(self._sums).tolist()
        means = {name: total / num_images for name, total in zip(self._names, totals, strict=True)}
        for name, histogram in self._histograms.items():
            usage, suffix = CodeUsage(distributed.total(histogram).cpu()), name.removeprefix(BOTTOM)
            means |= {f"usage{suffix}": usage.usage, f"perplexity{suffix}": usage.perplexity}
            means[f"dead_codes{suffix}"] = float(usage.num_dead)
        return means


def _psnr(images: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    # 10 log10(peak² / mse) with peak 2; the floor keeps a perfect image at a finite 126 dB.
    mse = (images - reconstruction).square().mean(dim=(1, 2, 3)).clamp(min=1e-12)
    return 10.0 * torch.log10(4.0 / mse)
