"""When each term counts, what is logged, and that nothing is computed for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vqgan_core.config import AutoencoderConfig, PatchGanConfig, TokenizerConfig, TokenizerLossConfig
from vqgan_core.losses import TokenizerLoss, adaptive_weight, pixel_loss
from vqgan_core.tokenizer import Tokenizer, TokenizerOutput


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(
        base_channels=8, channel_multipliers=(1, 2), num_res_blocks=1, resolution_px=24, latent_channels=4, num_groups=4
    )
    return Tokenizer(TokenizerConfig(codebook_size=16, codebook_dim=4, autoencoder=autoencoder))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def make(*, gan: dict[str, Any] | None = None, **config: Any) -> TokenizerLoss:
    torch.manual_seed(0)
    adversarial = "none" if gan is None else {"kind": "patchgan", "base_channels": 8, "num_layers": 2, **gan}
    return TokenizerLoss(
        TokenizerLossConfig.model_validate({"perceptual": "none", "adversarial": adversarial, **config}), 3
    )


def count_forwards(module: nn.Module) -> list[int]:
    calls = [0]

    def hook(*_: object) -> None:
        calls[0] += 1

    module.register_forward_hook(hook)
    return calls


def autoencoder_loss(
    loss: TokenizerLoss, tokenizer: Tokenizer, images: Tensor, step: int
) -> tuple[Tensor, dict[str, Tensor], TokenizerOutput]:
    output = tokenizer(images)
    return *loss.autoencoder_loss(images, output, tokenizer.last_layer, step), output


def test_without_adversarial_and_perceptual_it_is_a_vqvae(tokenizer: Tokenizer, images: Tensor) -> None:
    loss = make(pixel="l2", pixel_weight=3.0, codebook_weight=0.5)
    assert loss.discriminator is None
    assert loss.perceptual is None
    assert list(loss.parameters()) == []
    value, logs, output = autoencoder_loss(loss, tokenizer, images, 10**6)
    expected = 3 * (output.reconstruction - images).square().mean() + 0.5 * output.loss
    torch.testing.assert_close(value, expected)
    assert set(logs) == {"loss", "quantizer", "reconstruction", "pixel"}
    assert not any(value.requires_grad for value in logs.values())
    zero, nothing = loss.discriminator_loss(images, output.reconstruction, 10**6)
    assert (float(zero.detach()), nothing) == (0.0, {})


@pytest.mark.parametrize(
    ("step", "factor", "trained"),
    [(0, 0.0, False), (4, 0.0, False), (5, 0.0, True), (9, 0.0, True), (10, 0.2, True), (12, 0.6, True),
     (14, 1.0, True), (99, 1.0, True)],
)  # fmt: skip
def test_start_and_warm_up(step: int, factor: float, trained: bool) -> None:
    loss = make(gan={"start_step": 10, "warmup_steps": 4, "discriminator_start_step": 5})
    assert loss.adversarial_factor(step) == pytest.approx(factor)
    assert loss.trains_discriminator(step) is trained


def test_an_untrained_discriminator_is_never_felt() -> None:
    """As when a preset's start_step is made smaller, and nobody thinks of the other."""
    with pytest.raises(ValueError, match="discriminator_start_step 20 comes after start_step 10"):
        make(gan={"start_step": 10, "discriminator_start_step": 20})
    assert make(gan={"start_step": 20, "discriminator_start_step": 20}).trains_discriminator(20)


def test_as_in_the_original_by_default() -> None:
    loss = make(gan={"start_step": 10})
    assert [loss.adversarial_factor(step) for step in (9, 10, 11)] == [0.0, 1.0, 1.0]
    assert [loss.trains_discriminator(step) for step in (9, 10, 11)] == [False, True, True]


def test_nothing_adversarial_is_computed_before_it_counts(tokenizer: Tokenizer, images: Tensor) -> None:
    """The original runs its discriminator and both partial backwards from the first step, and multiplies by 0."""
    loss = make(gan={"start_step": 10})
    assert loss.discriminator is not None
    calls = count_forwards(loss.discriminator)
    _, logs, output = autoencoder_loss(loss, tokenizer, images, 9)
    assert "adaptive_weight" not in logs
    assert float(logs["adversarial_factor"]) == 0
    value, _ = loss.discriminator_loss(images, output.reconstruction, 9)
    value.backward()
    assert calls == [0]
    assert all(parameter.grad is None for parameter in loss.discriminator.parameters())


def test_adversarial_term(tokenizer: Tokenizer, images: Tensor) -> None:
    loss = make(gan={"start_step": 0, "warmup_steps": 1, "weight": 0.7})
    assert loss.discriminator is not None
    calls = count_forwards(loss.discriminator)
    value, logs, output = autoencoder_loss(loss, tokenizer, images, 0)
    assert calls == [1]
    assert set(logs) == {
        "loss", "quantizer", "reconstruction", "pixel", "adversarial_factor", "generator", "adaptive_weight"
    }  # fmt: skip
    expected = logs["reconstruction"] + logs["quantizer"] + 0.5 * 0.7 * logs["adaptive_weight"] * logs["generator"]
    torch.testing.assert_close(value.detach(), expected)
    value.backward()
    assert all(parameter.grad is None for parameter in loss.discriminator.parameters())
    tokenizer.zero_grad()
    value, logs = loss.discriminator_loss(images, output.reconstruction, 0)
    assert set(logs) == {"discriminator", "logits_real", "logits_fake"}
    value.backward()
    assert all(parameter.grad is not None for parameter in loss.discriminator.parameters())
    assert all(parameter.grad is None for parameter in tokenizer.parameters()), "the reconstruction is detached"


def test_the_perceptual_network_runs_once(shared_weights: Path, tokenizer: Tokenizer, images: Tensor) -> None:
    """The original runs it a second time in the discriminator's pass and throws the result away."""
    weights = str(shared_weights / "lpips_squeeze_v0.1_full_state.pth")
    perceptual = {"kind": "lpips", "net": "squeeze", "weights": weights, "weight": 2.0}
    loss = make(gan={"start_step": 0}, perceptual=perceptual)
    assert loss.perceptual is not None
    calls = count_forwards(loss.perceptual)
    _, logs, output = autoencoder_loss(loss, tokenizer, images, 0)
    loss.discriminator_loss(images, output.reconstruction, 0)
    assert calls == [1]
    torch.testing.assert_close(logs["reconstruction"], logs["pixel"] + 2 * logs["perceptual"])
    with pytest.raises(ValueError, match="these have 4"):
        TokenizerLoss(loss.config, 4)


def test_validation_leaves_the_adversarial_term_out(tokenizer: Tokenizer, images: Tensor) -> None:
    loss = make(gan={"start_step": 0}).eval()
    with torch.no_grad():
        value, logs, _ = autoencoder_loss(loss, tokenizer, images, 5)
    torch.testing.assert_close(value, logs["reconstruction"] + logs["quantizer"])
    assert "generator" not in logs


def test_a_fixed_weight(tokenizer: Tokenizer, images: Tensor) -> None:
    _, logs, _ = autoencoder_loss(make(gan={"start_step": 0, "adaptive": False}), tokenizer, images, 0)
    assert float(logs["adaptive_weight"]) == 1


@pytest.mark.parametrize(("maximum", "expected"), [(1e4, 6 / (2 + 0.5)), (1.5, 1.5)])
def test_adaptive_weight_is_the_clamped_ratio_of_norms(maximum: float, expected: float) -> None:
    last = torch.ones(4, requires_grad=True)
    weight = adaptive_weight(3 * last.sum(), -last.sum(), last, delta=0.5, maximum=maximum)
    assert float(weight) == pytest.approx(expected)
    assert not weight.requires_grad


def test_losses_are_fp32_under_autocast(tokenizer: Tokenizer, images: Tensor) -> None:
    loss = make(gan={"start_step": 0})
    with torch.autocast("cpu", torch.bfloat16):
        value, logs, output = autoencoder_loss(loss, tokenizer, images, 0)
        of_discriminator, _ = loss.discriminator_loss(images, output.reconstruction, 0)
    assert value.dtype == of_discriminator.dtype == torch.float32
    assert {log.dtype for log in logs.values()} == {torch.float32}


def test_pixel_losses() -> None:
    x, y = torch.tensor([[1.0, -2.0]]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    assert float(pixel_loss("l1", x, y)) == 1.5
    assert float(pixel_loss("l2", x, y)) == 2.5


def test_an_image_that_holds_no_patch_is_refused(images: Tensor) -> None:
    discriminator = make(gan={"num_layers": 4}).discriminator
    assert discriminator is not None
    with pytest.raises(ValueError, match="at least 48 px"):
        discriminator(images)
    assert discriminator(torch.zeros(1, 3, 48, 48)).shape == (1, 1, 1, 1)


def test_widths_double_up_to_eightfold() -> None:
    discriminator = make(gan={"num_layers": 5}).discriminator
    assert discriminator is not None
    widths = [layer.out_channels for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    assert widths == [8, 16, 32, 64, 64, 64, 1]


def test_a_rolled_back_actnorm_initialises_again() -> None:
    """Its cached knowledge of the buffer must not outlive a load."""
    config = PatchGanConfig(base_channels=8, num_layers=1, norm="actnorm")
    loss = TokenizerLoss(TokenizerLossConfig.model_validate({"perceptual": "none", "adversarial": config}), 3)
    assert loss.discriminator is not None
    before = {name: value.clone() for name, value in loss.discriminator.state_dict().items()}
    first, second = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16) * 5
    expected = loss.discriminator(first)
    loss.discriminator.load_state_dict(before)
    loss.discriminator(second)
    loss.discriminator.load_state_dict(before)
    assert torch.equal(loss.discriminator(first), expected)
