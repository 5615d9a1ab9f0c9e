"""Configs of the networks whose features image sets are compared in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vqgan_core.config.base import Config


class _ExtractorConfig(Config):
    weights: str = Field(min_length=1)
    """Path or URL of the weights, as tensors only; nothing is fetched from anywhere else."""
    sha256: str = Field("", pattern=r"^([0-9a-f]{8,64})?$")
    """The weights file's sha256, or its beginning, which is checked; empty: any (the digest is stored all the same)."""


class InceptionConfig(_ExtractorConfig):
    """The FID Inception network, in torch-fidelity's build of it and with its weights file: FID, sFID, KID, IS."""

    kind: Literal["inception"] = "inception"


class MobileNetConfig(_ExtractorConfig):
    """torchvision's MobileNetV2, trained on ImageNet with 1,000 classes, or with 1,001 in TensorFlow."""

    kind: Literal["mobilenet"] = "mobilenet"


class DinoV2Config(_ExtractorConfig):
    """DINOv2's vision transformer, of the authors' weights files: FD-DINOv2."""

    kind: Literal["dinov2"] = "dinov2"


ExtractorConfig = Annotated[InceptionConfig | MobileNetConfig | DinoV2Config, Field(discriminator="kind")]
