"""The cost of a loss equals what a pencil, and running its networks, show."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqgan_core.config import LpipsConfig, PatchGanConfig, TokenizerLossConfig
from vqgan_core.losses import PatchDiscriminator, build_perceptual
from vqgan_core.losses.cost import loss_cost, perceptual_flops


def test_nothing_is_added_where_nothing_is_asked_for() -> None:
    cost = loss_cost(TokenizerLossConfig(perceptual="none", adversarial="none"), 3, 32)
    assert (cost.num_parameters, cost.discriminator_flops, cost.perceptual_flops) == (0, 0.0, 0.0)


def test_discriminator_by_hand() -> None:
    gan = PatchGanConfig(base_channels=8, num_layers=1)
    cost = loss_cost(TokenizerLossConfig(perceptual="none", adversarial=gan), 3, 8)
    # 4×4 kernels: 8×8 → 4×4 (8 wide), → 3×3 (16 wide), → 2×2 logits
    by_hand = 4 * 4 * (16 * 3 * 8) + 3 * 3 * (16 * 8 * 16) + 2 * 2 * (16 * 16 * 1)
    assert cost.discriminator_flops == 2 * by_hand
    assert cost.num_parameters == sum(parameter.numel() for parameter in PatchDiscriminator(gan, 3).parameters())


def test_perceptual_network_is_that_of_a_real_comparison(shared_weights: Path) -> None:
    config = LpipsConfig(net="squeeze", weights=str(shared_weights / "lpips_squeeze_v0.1_full_state.pth"))
    network = build_perceptual(config)
    assert network is not None
    images = torch.zeros(1, 1, 32, 32)  # grey: repeated to three channels
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images, images)
    assert counter.get_total_flops() == 2 * perceptual_flops(config, 32) > 0


def test_perceptual_network_is_counted_without_its_weights() -> None:
    """VGG16's convolutions on 224×224 px are 15.3 billion multiply-adds; `nowhere.pth` is never opened."""
    flops = perceptual_flops(LpipsConfig(net="vgg", weights="nowhere.pth"), 224)
    assert 30.6e9 < flops < 30.8e9
