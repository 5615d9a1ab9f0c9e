"""What tokenizers minimise: pixel, perceptual and adversarial terms."""

from vqgan_core.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from vqgan_core.losses.discriminator import ActNorm, PatchDiscriminator
from vqgan_core.losses.lecam import LecamAnchors
from vqgan_core.losses.logit_laplace import logit_laplace_nll
from vqgan_core.losses.perceptual import Lpips, build_perceptual
from vqgan_core.losses.pixel import PixelKind, pixel_loss
from vqgan_core.losses.tokenizer_loss import TokenizerLoss

__all__ = [
    "ActNorm",
    "LecamAnchors",
    "Lpips",
    "PatchDiscriminator",
    "PixelKind",
    "TokenizerLoss",
    "adaptive_weight",
    "build_perceptual",
    "discriminator_loss",
    "generator_loss",
    "logit_laplace_nll",
    "pixel_loss",
]
