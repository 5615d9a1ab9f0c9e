"""Latent perturbation: what the decoder sees, what stays, and when."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vqgan_core.training.steps import images_of, tokenizer_config
from vqgan_core.config import ConfigError, PerturbationConfig
from vqgan_core.quantizers import Quantized
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import TokenizerStep
from vqgan_core.training.perturbation import LatentPerturbation


def perturbation(tokenizer: Tokenizer, **config: Any) -> LatentPerturbation:
    return LatentPerturbation(PerturbationConfig(**config), tokenizer.quantizer, torch.Generator().manual_seed(3))


def tokenizer() -> Tokenizer:
    made = TokenizerStep(tokenizer_config()).tokenizer
    torch.manual_seed(0)
    torch.nn.init.normal_(made.quantizer.codebook)
    return made


def test_whole_images_are_perturbed_and_the_others_are_not() -> None:
    made = tokenizer()
    perturb = perturbation(made, image_fraction=0.5, num_neighbours=3)
    images = images_of(0, size=64)["images"]
    plain = made(images)
    seen = list[torch.Tensor]()

    def decoded(result: Quantized) -> torch.Tensor:
        seen.append(perturb.perturb(result, 0))
        return seen[-1]

    output = made(images, decoded)
    assert torch.equal(output.indices, plain.indices)
    assert torch.equal(output.loss, plain.loss)
    moved = (output.quantized - plain.quantized).abs().amax(dim=1) > 1e-4
    per_image = moved.flatten(1).float().mean(dim=1)
    assert set(per_image.tolist()) == {0.0, 1.0}
    assert per_image.mean().item() == pytest.approx(0.5, abs=0.2)
    entries = made.quantizer.codebook.detach()
    rows = seen[0].detach().permute(0, 2, 3, 1).reshape(-1, 4)
    distances = (rows[:, None] - entries).norm(dim=2)
    assert distances.amin(dim=1).max() < 1e-4, "the decoder sees entries, whichever"


def test_the_gradient_still_reaches_the_latents() -> None:
    made = tokenizer()
    latents = torch.randn(8, 4, 3, 3, requires_grad=True)
    perturb = perturbation(made, image_fraction=1.0)
    upstream = torch.randn(8, 4, 3, 3)
    perturb.perturb(made.quantizer(latents), 0).backward(upstream)
    assert torch.equal(latents.grad, upstream)


def test_no_image_is_an_ordinary_pass() -> None:
    made = tokenizer()
    result = made.quantizer(torch.randn(4, 4, 3, 3))
    assert perturbation(made, image_fraction=0.0).perturb(result, 0) is result.quantized


@pytest.mark.parametrize(("step", "expected"), [(0, 0.8), (10, 0.8), (15, 0.5), (20, 0.2), (99, 0.2)])
def test_alpha_falls_between_two_steps(step: int, expected: float) -> None:
    config = {"probability": 0.8, "final_probability": 0.2, "anneal_start_step": 10, "anneal_end_step": 20}
    assert perturbation(tokenizer(), **config).probability(step) == pytest.approx(expected)
    assert perturbation(tokenizer(), probability=0.8).probability(step) == 0.8


def test_it_is_trained_with_logged_and_left_out_of_validation() -> None:
    common = {"loss__adversarial": "none", "perturbation__image_fraction": 1.0}
    step, plain = TokenizerStep(tokenizer_config(**common)), TokenizerStep(tokenizer_config(loss__adversarial="none"))
    assert step.validate([images_of(-1)]) == plain.validate([images_of(-1)])
    one, other = step.train_step(images_of(0), 0), plain.train_step(images_of(0), 0)
    assert one["perturbation"] == 1.0
    assert "perturbation" not in other
    assert float(one["quantizer"]) == float(other["quantizer"])
    assert float(one["pixel"]) != float(other["pixel"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="anneal_end_step 5 must come after anneal_start_step 5"):
        tokenizer_config(perturbation__anneal_start_step=5, perturbation__anneal_end_step=5)
    with pytest.raises(ConfigError, match="which quantizer residual has not"):
        tokenizer_config(perturbation__image_fraction=0.1, quantizer__kind="residual")
