"""What keeps a discriminator tame: spectral norm and LeCam."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vqgan_core.config import PatchGanConfig, TokenizerLossConfig
from vqgan_core.losses import PatchDiscriminator, TokenizerLoss, discriminator_loss
from vqgan_core.losses.spectral_norm import SpectralNorm


def discriminator(**config: Any) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(PatchGanConfig(base_channels=8, num_layers=2, norm="spectral", **config), 3)


def images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def largest_singular_values(module: nn.Module) -> list[float]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert layers
    return [torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() for layer in layers]


def test_every_convolution_has_norm_one_from_the_start_and_in_training() -> None:
    made = discriminator().train()
    assert largest_singular_values(made) == pytest.approx([1.0] * 4, rel=0.05)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for step in range(30):
        optimizer.zero_grad()
        discriminator_loss("hinge", made(images(step)), made(images(step + 100))).backward()
        optimizer.step()
    assert largest_singular_values(made.eval()) == pytest.approx([1.0] * 4, rel=0.05)
    raw = [value for name, value in made.named_parameters() if name.endswith("original")]
    assert all(torch.linalg.matrix_norm(value.detach().flatten(1), 2) > 1.5 * 0.02 for value in raw)


def test_iterations_converge_to_the_norm_and_stop_in_eval() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 3, 4, 4)
    norm = SpectralNorm(weight).train()
    for _ in range(200):
        norm(weight)
    exact = torch.linalg.matrix_norm(weight.flatten(1), 2)
    torch.testing.assert_close(norm.eval()(weight), weight / exact, rtol=1e-5, atol=1e-6)
    before = norm.left.clone()
    norm(weight * 2)
    assert torch.equal(norm.left, before)


def test_the_gradient_is_that_of_the_quotient() -> None:
    """Two forwards before the backward, as real and reconstructed images are judged."""
    torch.manual_seed(0)
    weight, upstream = torch.randn(5, 2, 3, 3, requires_grad=True), torch.randn(5, 2, 3, 3)
    norm = SpectralNorm(weight).train()
    for _ in range(200):
        norm(weight)
    first = norm(weight)
    norm(weight * 3)
    first.backward(upstream)
    ours = weight.grad.clone()
    weight.grad = None
    (weight / torch.linalg.matrix_norm(weight.flatten(1), 2)).backward(upstream)
    torch.testing.assert_close(ours, weight.grad, rtol=1e-3, atol=1e-4)


def test_the_norm_is_fp32_under_autocast() -> None:
    made = discriminator().eval()
    layer = next(layer for layer in made.modules() if isinstance(layer, nn.Conv2d))
    exact = layer.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, exact)
        assert made(images(0)).dtype == torch.bfloat16


def loss_of(**gan: Any) -> TokenizerLoss:
    torch.manual_seed(0)
    config = PatchGanConfig(base_channels=8, num_layers=2, start_step=0, norm="actnorm", **gan)
    return TokenizerLoss(TokenizerLossConfig(perceptual="none", adversarial=config), 3)


def test_lecam_is_the_distance_to_the_other_sides_average() -> None:
    loss, plain = loss_of(lecam_weight=0.3, lecam_decay=0.9), loss_of()
    assert loss.lecam is not None
    assert loss.discriminator is not None
    alpha = {"real": 0.0, "fake": 0.0}
    for step in range(4):
        real, fake = images(step), images(step + 10) * 0.3
        value, logs = loss.discriminator_loss(real, fake, step)
        expected, _ = plain.discriminator_loss(real, fake, step)
        torch.testing.assert_close(logs["discriminator"], expected.detach())
        r, f = loss.discriminator(real).detach(), loss.discriminator(fake).detach()
        penalty = (r - alpha["fake"]).square().mean() + (f - alpha["real"]).square().mean()
        torch.testing.assert_close(logs["lecam"], penalty)
        torch.testing.assert_close(value.detach(), logs["discriminator"] + 0.3 * penalty)
        loss.end_step(logs)
        alpha = {
            "real": 0.9 * alpha["real"] + 0.1 * float(logs["logits_real"]),
            "fake": 0.9 * alpha["fake"] + 0.1 * float(logs["logits_fake"]),
        }
        assert float(loss.lecam.real) == pytest.approx(alpha["real"], rel=1e-5)
        assert float(loss.lecam.fake) == pytest.approx(alpha["fake"], rel=1e-5)
    assert alpha["real"] != alpha["fake"]


def test_lecam_waits_for_the_discriminator_and_costs_nothing_without_a_weight() -> None:
    loss = loss_of(lecam_weight=0.3)
    assert loss.lecam is not None
    loss.end_step({"loss": torch.ones(())})
    assert float(loss.lecam.real) == 0
    assert loss_of().lecam is None
