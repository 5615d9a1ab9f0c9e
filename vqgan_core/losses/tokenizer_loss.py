"""What a tokenizer minimises, and its discriminator.

Axes: B batch, C channels, H×W image.

Source: arXiv 2012.09841 eq. 4-7. Departures from the original:

- The discriminator's influence can rise over `warmup_steps`, and its training can start before its influence: there,
  both begin at once at full strength, and trainings break at that step.
- Nothing is computed that is not used: no generator pass and no adaptive weight while the factor is 0, no perceptual
  network in the discriminator's pass, no discriminator gradients in the autoencoder's.
- Without gradients (validation) λ does not exist, so the adversarial term is left out and not logged; the original
  takes λ = 0 there, which gives the same value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core.config import LpipsConfig, PatchGanConfig, TokenizerLossConfig
from vqgan_core.losses import adversarial
from vqgan_core.losses.discriminator import PatchDiscriminator
from vqgan_core.losses.lecam import LecamAnchors
from vqgan_core.losses.logit_laplace import logit_laplace_nll
from vqgan_core.losses.perceptual import build_perceptual
from vqgan_core.losses.pixel import pixel_loss
from vqgan_core.tokenizer import TokenizerOutput

__all__ = ["TokenizerLoss"]

Logs = dict[str, Tensor]


class TokenizerLoss(nn.Module):
    """Pixel + perceptual + codebook + λ · adversarial; the discriminator is its only trained part.

    Args:
        config: which terms, and their weights.
        image_channels: of the images that are compared.

    Raises:
        ValueError: the perceptual weights are not there, or do not compare images of so many channels.
    """

    perceptual: nn.Module | None
    discriminator: PatchDiscriminator | None
    lecam: LecamAnchors | None

    def __init__(self, config: TokenizerLossConfig, image_channels: int) -> None:
        super().__init__()
        self.config = config
        lpips = config.perceptual if isinstance(config.perceptual, LpipsConfig) else None
        if lpips is not None and image_channels not in (1, 3):
            raise ValueError(
                f"LPIPS compares images of 1 or 3 channels, these have {image_channels}; use perceptual: none"
            )
        self.perceptual = build_perceptual(config.perceptual)
        self.perceptual_weight = 0.0 if lpips is None else lpips.weight
        gan = config.adversarial
        self.discriminator, self.lecam = None, None
        if isinstance(gan, PatchGanConfig):
            self.discriminator = PatchDiscriminator(gan, image_channels)
            self.lecam = LecamAnchors(gan.lecam_decay) if gan.lecam_weight else None

    def adversarial_factor(self, step: int) -> float:
        """How much of the adversarial term counts at a step: 0 before start_step, then a linear rise to 1."""
        gan = self.config.adversarial
        if not isinstance(gan, PatchGanConfig) or step < gan.start_step:
            return 0.0
        return min(1.0, (step - gan.start_step + 1) / (gan.warmup_steps + 1))

    def trains_discriminator(self, step: int) -> bool:
        """Whether the discriminator is trained at a step; if not, its pass can be left out."""
        gan = self.config.adversarial
        if not isinstance(gan, PatchGanConfig):
            return False
        start = gan.start_step if gan.discriminator_start_step is None else gan.discriminator_start_step
        return step >= start

    def autoencoder_loss(
        self, images: Float[Tensor, "B C H W"], output: TokenizerOutput, last_layer: Tensor, step: int
    ) -> tuple[Float[Tensor, ""], Logs]:
        """The autoencoder's loss.

        Args:
            images: what was to be reconstructed.
            output: what the tokenizer made of them.
            last_layer: the decoder's last weight, for λ.
            step: optimiser steps before this one.

        Returns:
            The loss, and detached scalars on the device. `adaptive_weight` (λ, clamped, before the config's weight)
            and `generator` are there only when they were computed.
        """
        reconstruction, logs = self._reconstruction_loss(images, output)
        loss = reconstruction + self.config.codebook_weight * output.loss
        logs["quantizer"] = output.loss
        gan = self.config.adversarial
        if isinstance(gan, PatchGanConfig):
            factor = self.adversarial_factor(step)
            logs["adversarial_factor"] = loss.new_tensor(factor)
            if factor > 0 and reconstruction.requires_grad:
                generator = self._generator_loss(output.reconstruction)
                weight = self._adaptive_weight(gan, reconstruction, generator, last_layer)
                loss = loss + factor * gan.weight * weight * generator
                logs |= {"generator": generator, "adaptive_weight": weight}
        logs["loss"] = loss
        return loss, {name: value.detach() for name, value in logs.items()}

    def discriminator_loss(
        self, images: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"], step: int
    ) -> tuple[Float[Tensor, ""], Logs]:
        """The discriminator's loss; before it is trained, a zero that moves nothing, without a forward pass.

        Args:
            images: real ones.
            reconstruction: of them; detached here.
            step: optimiser steps before this one.
        """
        gan = self.config.adversarial
        if self.discriminator is None or not isinstance(gan, PatchGanConfig) or not self.trains_discriminator(step):
            return torch.zeros((), device=images.device, requires_grad=True), {}
        real = self.discriminator(images).float()
        fake = self.discriminator(reconstruction.detach()).float()
        loss = adversarial.discriminator_loss(gan.loss, real, fake)
        logs = {"discriminator": loss, "logits_real": real.mean(), "logits_fake": fake.mean()}
        if self.lecam is not None:
            logs["lecam"] = self.lecam(real, fake)
            loss = loss + gan.lecam_weight * logs["lecam"]
        return loss, {name: value.detach() for name, value in logs.items()}

    def end_step(self, logs: Logs) -> None:
        """Do what follows an optimiser step: LeCam's averages move, if the discriminator was trained.

        Args:
            logs: means over the step's pieces.
        """
        if self.lecam is not None and "logits_real" in logs:
            self.lecam.follow(logs["logits_real"], logs["logits_fake"])

    def _reconstruction_loss(self, images: Tensor, output: TokenizerOutput) -> tuple[Float[Tensor, ""], Logs]:
        with torch.autocast(images.device.type, enabled=False):
            images, reconstruction = images.float(), output.reconstruction.float()
            if output.statistics is not None:
                pixel = logit_laplace_nll(images, output.statistics).mean()
            else:
                pixel = pixel_loss(self.config.pixel, reconstruction, images)
            loss, logs = self.config.pixel_weight * pixel, {"pixel": pixel}
            if self.perceptual is not None:
                logs["perceptual"] = self.perceptual(images, reconstruction).mean()
                loss = loss + self.perceptual_weight * logs["perceptual"]
        return loss, logs | {"reconstruction": loss}

    def _generator_loss(self, reconstruction: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
        assert self.discriminator is not None
        with _without_gradients_of(self.discriminator):
            return adversarial.generator_loss(self.discriminator(reconstruction).float())

    def _adaptive_weight(
        self, gan: PatchGanConfig, reconstruction: Tensor, generator: Tensor, last_layer: Tensor
    ) -> Float[Tensor, ""]:
        if not gan.adaptive:
            return generator.new_ones(())
        return adversarial.adaptive_weight(reconstruction, generator, last_layer, gan.adaptive_delta, gan.adaptive_max)


@contextmanager
def _without_gradients_of(module: nn.Module) -> Iterator[None]:
    """Record a forward pass whose backward reaches the inputs and not the parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
