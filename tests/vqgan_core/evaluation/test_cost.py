"""The cost of a domain classifier equals what a pencil, and running one, show."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqgan_core.config import ClassifierConfig
from vqgan_core.evaluation.classifier import ClassifierNetwork, ClassifierSpec
from vqgan_core.evaluation.cost import classifier_cost


def test_by_hand() -> None:
    """8 px: 8×8 → 4×4, four wide, two convolutions of 3×3; then a linear layer to three classes."""
    cost = classifier_cost(ClassifierConfig(base_channels=4, size_px=8), 1, 3)
    assert cost.forward_flops == 2 * (16 * 9 * 1 * 4 + 16 * 9 * 4 * 4 + 4 * 3)
    assert cost.num_parameters == (9 * 4 + 8) + (9 * 16 + 8) + (4 * 3 + 3)


def test_it_is_what_torch_counts_in_a_real_pass() -> None:
    config = ClassifierConfig(base_channels=8, size_px=32)
    cost = classifier_cost(config, 3, 7)
    spec = ClassifierSpec(classifier=config, image_channels=3, class_names=tuple("abcdefg"), seed=0)
    network = ClassifierNetwork(spec).eval()
    assert cost.num_parameters == sum(parameter.numel() for parameter in network.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 3, 48, 48))  # resized to 32 first
    assert counter.get_total_flops() == 2 * cost.forward_flops
