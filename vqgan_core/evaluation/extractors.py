"""From a config to its network."""

from __future__ import annotations

import torch

from vqgan_core.config.extractor import DinoV2Config, ExtractorConfig, InceptionConfig
from vqgan_core.evaluation.dinov2 import DinoV2
from vqgan_core.evaluation.extractor import Extractor
from vqgan_core.evaluation.inception import Inception
from vqgan_core.evaluation.mobilenet import MobileNet

__all__ = ["build_extractor"]


def build_extractor(config: ExtractorConfig, device: torch.device) -> Extractor:
    """The network that a config asks for, ready to look at images.

    Raises:
        WeightsError: its weights are not there, are others, or do not fit.
    """
    if isinstance(config, InceptionConfig):
        return Inception(config, device)
    if isinstance(config, DinoV2Config):
        return DinoV2(config, device)
    return MobileNet(config, device)
