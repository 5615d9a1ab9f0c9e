"""What networks that judge cost: parameters, and operations of one image, forward (a multiply-add is two)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vqgan_core.config import ClassifierConfig
from vqgan_core.evaluation.classifier import ClassifierNetwork, ClassifierSpec
from vqgan_core.tokenizer.cost import forward_flops, num_parameters

__all__ = ["EXTRACTOR_FLOPS", "ClassifierCost", "classifier_cost"]

EXTRACTOR_FLOPS = {"inception": 11.4e9, "mobilenet": 0.6e9, "dinov2": 162e9}
"""One image at the network's own size, as their papers say; of DINOv2, ViT-L/14."""


@dataclass(frozen=True)
class ClassifierCost:
    """Costs of one classifier."""

    num_parameters: int
    forward_flops: float
    """One image; the resize before it is left out."""


def classifier_cost(config: ClassifierConfig, image_channels: int, num_classes: int) -> ClassifierCost:
    """Count a classifier's parameters and operations without allocating it."""
    names = tuple(str(number) for number in range(num_classes))
    spec = ClassifierSpec(classifier=config, image_channels=image_channels, class_names=names, seed=0)
    with torch.device("meta"):
        network = ClassifierNetwork(spec).eval()
    flops = forward_flops(network, (1, image_channels, config.size_px, config.size_px))
    return ClassifierCost(num_parameters(network), flops)
