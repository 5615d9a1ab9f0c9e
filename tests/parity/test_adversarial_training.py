"""The adaptive weight, both players' losses and gradients, and five alternating steps equal the original's.

Where the original computes what it then multiplies by 0 (before `disc_start`), we compute nothing; there the tests
build its numbers from our parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.tokenizer_cases import (
    Tensors,
    assert_gradient,
    build_loss,
    build_tokenizer,
    read_case,
    read_tensors,
    with_prefix,
)
from vqgan_core.legacy.taming_tokenizer import our_key
from vqgan_core.losses import TokenizerLoss, adaptive_weight, generator_loss
from vqgan_core.tokenizer import Tokenizer


def _norm(gradients: list[Tensor]) -> float:
    return float(sum(gradient.double().square().sum() for gradient in gradients) ** 0.5)


def _close(ours: Tensor | float, golden: float, name: str, rtol: float = 1e-4) -> None:
    value = ours.item() if isinstance(ours, Tensor) else ours
    assert value == pytest.approx(golden, rel=rtol, abs=2e-5), name


class Variant:
    """One variant of e_adaptive: our parts with the golden weights, and what is expected of them."""

    def __init__(self, case: dict[str, Any], tensors: Tensors, name: str) -> None:
        self.name = name
        spec = case["variants"][name]
        self.params, self.step, self.golden = spec["loss_params"], spec["global_step"], spec["scalars"]
        self.factor = self.params.get("disc_factor", 1.0)
        self.tensors = tensors
        self.images = tensors["x"]
        placement = "legacy" if spec["legacy"] else "corrected"
        self.tokenizer, discriminator = build_tokenizer(
            case["config"], with_prefix(tensors, "sd."), beta_placement=placement
        )
        self.tokenizer.train()
        stub = spec["perceptual_stub"] == "MSEasLPIPS"
        self.loss = build_loss(self.params, discriminator, image_channels=self.images.shape[1], stub=stub).train()

    def check_autoencoder(self) -> None:
        output = self.tokenizer(self.images)
        loss, logs = self.loss.autoencoder_loss(self.images, output, self.tokenizer.last_layer, self.step)
        loss.backward()
        expected = self.golden
        torch.testing.assert_close(output.reconstruction.detach(), self.tensors["recon"], atol=2e-5, rtol=1e-4)
        _close(loss, expected["total_loss"], self.name)
        _close(logs["loss"], expected["total_loss"], self.name)
        _close(logs["quantizer"], expected["quant_loss"], self.name)
        _close(logs["reconstruction"], expected["nll_loss"], self.name)
        if "perceptual" in logs:
            _close(logs["perceptual"], expected["p_loss"], self.name)
        _close(logs["adversarial_factor"] * self.factor, expected["disc_factor"], self.name)
        if expected["disc_factor"] > 0:
            _close(logs["generator"], expected["g_loss"], self.name)
            _close(logs["adaptive_weight"] * self.params["disc_weight"], expected["d_weight"], self.name)
        else:
            assert "generator" not in logs
            assert "adaptive_weight" not in logs
        gradients = [p.grad for p in self.tokenizer.parameters() if p.grad is not None]
        _close(_norm(gradients), expected["grad_norm_all_ae"], self.name, rtol=1e-3)
        parameters = dict(self.tokenizer.named_parameters())
        for key, gradient in with_prefix(self.tensors, f"{self.name}.grad.").items():
            assert_gradient(parameters[our_key(key) or ""].grad, gradient, f"{self.name} {key}")
        assert self.loss.discriminator is not None
        assert all(p.grad is None for p in self.loss.discriminator.parameters())

    def check_adaptive_weight(self) -> None:
        """From parts, at steps where the loss leaves it out as well."""
        assert self.loss.discriminator is not None
        output = self.tokenizer(self.images)
        _, logs = self.loss._reconstruction_loss(self.images, output)
        reconstruction = logs["reconstruction"]
        generator = generator_loss(self.loss.discriminator(output.reconstruction))
        last = self.tokenizer.last_layer
        for term, name in ((reconstruction, "norm_nll_grad_last"), (generator, "norm_g_grad_last")):
            (gradient,) = torch.autograd.grad(term, last, retain_graph=True)
            _close(_norm([gradient]), self.golden[name], self.name, rtol=1e-3)
        weight = adaptive_weight(reconstruction, generator, last, delta=1e-4, maximum=1e4)
        _close(generator, self.golden["g_loss"], self.name)
        _close(weight * self.params["disc_weight"], self.golden["d_weight"], self.name)

    def check_discriminator(self) -> None:
        assert self.loss.discriminator is not None
        reconstruction = self.tokenizer(self.images).reconstruction
        with torch.no_grad():  # batch statistics, so the logits do not depend on how often it has run
            real, fake = (self.loss.discriminator(x).mean() for x in (self.images, reconstruction))
        _close(real, self.golden["logits_real"], self.name)
        _close(fake, self.golden["logits_fake"], self.name)
        loss, logs = self.loss.discriminator_loss(self.images, reconstruction, self.step)
        (loss * self.factor).backward()
        _close(loss * self.factor, self.golden["disc_loss"], self.name)
        gradients = [p.grad for p in self.loss.discriminator.parameters() if p.grad is not None]
        _close(_norm(gradients), self.golden["grad_norm_all_disc"], self.name, rtol=1e-3)
        assert set(logs) == ({"discriminator", "logits_real", "logits_fake"} if gradients else set())

    def check_validation(self) -> None:
        """The original falls back to λ = 0 without gradients; leaving the term out gives the same total."""
        self.tokenizer.eval()
        self.loss.eval()
        with torch.no_grad():
            output = self.tokenizer(self.images)
            loss, logs = self.loss.autoencoder_loss(self.images, output, self.tokenizer.last_layer, self.step)
        assert self.golden["val_nograd_d_weight"] == 0
        assert "adaptive_weight" not in logs
        _close(loss, self.golden["val_nograd_total_loss"], self.name)


@pytest.mark.parametrize("check", ["autoencoder", "adaptive_weight", "discriminator", "validation"])
def test_every_variant_of_the_adaptive_weight(parity_dir: Path, check: str) -> None:
    case = read_case(parity_dir, "e_adaptive")
    tensors = read_tensors(parity_dir, case)
    assert case["variants"]
    for name in case["variants"]:
        getattr(Variant(case, tensors, name), f"check_{check}")()


def test_gradients_of_the_discriminator(parity_dir: Path) -> None:
    """Stored once: of the first variant whose discriminator is trained."""
    case = read_case(parity_dir, "e_adaptive")
    tensors = read_tensors(parity_dir, case)
    trained = [name for name, spec in case["variants"].items() if spec["scalars"]["grad_norm_all_disc"] > 0]
    variant = Variant(case, tensors, trained[0])
    variant.check_discriminator()
    assert variant.loss.discriminator is not None
    parameters = dict(variant.loss.discriminator.named_parameters())
    gradients = with_prefix(tensors, "grad_disc.main.")
    assert gradients
    for key, gradient in gradients.items():
        assert_gradient(parameters[f"layers.{key}"].grad, gradient, key)


def test_a_trajectory_of_alternating_steps(parity_dir: Path) -> None:
    case = read_case(parity_dir, "e2_trajectory")
    start = read_tensors(parity_dir, read_case(parity_dir, "e_adaptive"))
    tensors = read_tensors(parity_dir, case)
    tokenizer, discriminator_state = build_tokenizer(case["config"], with_prefix(start, "sd."))
    tokenizer.train()
    image_channels = tensors["x0"].shape[1]
    params = case["config"]["loss"]
    stub = case["config"]["perceptual"].startswith("MSEasLPIPS")
    loss = build_loss(params, discriminator_state, image_channels=image_channels, stub=stub).train()
    assert loss.discriminator is not None
    settings: dict[str, Any] = {"lr": case["config"]["lr"], "betas": (0.5, 0.9)}
    of_tokenizer = torch.optim.Adam(tokenizer.parameters(), **settings)
    of_discriminator = torch.optim.Adam(loss.discriminator.parameters(), **settings)
    for expected in case["steps"]:
        step = expected["step"]
        # Rounding differences grow from step to step.
        rtol = 1e-3 * (1 + step)
        images = tensors[f"x{step}"]
        _autoencoder_step(tokenizer, loss, images, of_tokenizer, expected, rtol)
        _discriminator_step(tokenizer, loss, images, of_discriminator, expected, rtol)
    ours = tokenizer.state_dict() | {f"discriminator.{k}": v for k, v in loss.discriminator.state_dict().items()}
    final = with_prefix(tensors, "final.")
    assert final
    for key, tensor in final.items():
        torch.testing.assert_close(ours[our_key(key) or ""], tensor, atol=2e-4, rtol=1e-3)


def _autoencoder_step(
    tokenizer: Tokenizer,
    loss: TokenizerLoss,
    images: Tensor,
    optimizer: torch.optim.Optimizer,
    expected: dict[str, float],
    rtol: float,
) -> None:
    step = int(expected["step"])
    output = tokenizer(images)
    total, logs = loss.autoencoder_loss(images, output, tokenizer.last_layer, step)
    _close(total, expected["total_loss"], f"step {step} total", rtol)
    _close(logs["quantizer"], expected["quant_loss"], f"step {step} quantizer", rtol)
    _close(logs["reconstruction"], expected["nll_loss"], f"step {step} reconstruction", rtol)
    if expected["disc_factor"] > 0:
        _close(logs["generator"], expected["g_loss"], f"step {step} generator", rtol)
    else:
        # The original runs its discriminator here for nothing, which moves BatchNorm's running statistics.
        assert loss.discriminator is not None
        _close(generator_loss(loss.discriminator(output.reconstruction)), expected["g_loss"], f"step {step}", rtol)
    total.backward()
    optimizer.step()
    optimizer.zero_grad()


def _discriminator_step(
    tokenizer: Tokenizer,
    loss: TokenizerLoss,
    images: Tensor,
    optimizer: torch.optim.Optimizer,
    expected: dict[str, float],
    rtol: float,
) -> None:
    """The original's second forward: with the autoencoder that the first step has just changed."""
    step = int(expected["step"])
    assert loss.discriminator is not None
    reconstruction = tokenizer(images).reconstruction.detach()
    total, logs = loss.discriminator_loss(images, reconstruction, step)
    if not loss.trains_discriminator(step):
        with torch.no_grad():
            logs = {"logits_real": loss.discriminator(images).mean()}
            logs["logits_fake"] = loss.discriminator(reconstruction).mean()
        for parameter in loss.discriminator.parameters():
            # The original steps here with gradients of zero: nothing moves, but Adam's bias correction goes on.
            parameter.grad = torch.zeros_like(parameter)
    _close(total, expected["disc_loss"], f"step {step} discriminator", rtol)
    # Means of logits of both signs: compared absolutely.
    for name in ("logits_real", "logits_fake"):
        assert float(logs[name]) == pytest.approx(expected[name], rel=rtol, abs=rtol), f"step {step} {name}"
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
