"""The Gumbel quantizer: noise in training alone, the relaxed gradient, the KL term."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # lowercase `functional` imported as non-lowercase `F`
from torch import Tensor

from vqgan_core.config import GumbelQuantizerConfig
from vqgan_core.quantizers import GumbelQuantizer
from vqgan_core.quantizers.gumbel import gumbel_noise, uniform_divergence
from vqgan_core.training import gumbel_temperature

NUM_ENTRIES, WIDTH = 6, 4


def quantizer(**config: object) -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(NUM_ENTRIES, WIDTH, GumbelQuantizerConfig.model_validate(config))


def latents(seed: int = 0) -> Tensor:
    return torch.randn(3, WIDTH, 5, 2, generator=torch.Generator().manual_seed(seed))


def test_encode_is_the_mode_and_draws_nothing_in_any_mode() -> None:
    """Anchors' defect 8: the original draws noise in eval, so that two encodes agree on 3 % of positions."""
    made = quantizer().train()
    expected = made.project(latents()).argmax(dim=1)
    before = torch.get_rng_state()
    assert torch.equal(made.encode(latents()), expected)
    result = made.eval()(latents())
    assert torch.equal(result.indices, expected)
    assert torch.equal(result.quantized, made.decode(expected))
    assert torch.equal(torch.get_rng_state(), before)
    noisy = [made.train()(latents()).indices for _ in range(2)]
    assert not torch.equal(*noisy)


def test_draws_have_the_probabilities_of_the_logits() -> None:
    """Gumbel-max: the entry of the largest noisy logit is a draw from the softmax."""
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).view(1, 4, 1, 1).expand(1, 4, 200, 200)
    drawn = (logits + gumbel_noise(logits)).argmax(dim=1).flatten()
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, logits[0, :, 0, 0].softmax(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("straight_through", [True, False])
def test_a_draw_and_its_gradients_are_those_of_one_hot_rows(straight_through: bool) -> None:
    made = quantizer(straight_through=straight_through)
    made.temperature = 0.7
    logits = made.logits(latents()).detach().requires_grad_()
    noise, upstream = gumbel_noise(logits.detach()), torch.randn(3, WIDTH, 5, 2)
    quantized, indices = made.draw(logits, noise)
    quantized.backward(upstream)
    ours = logits.grad.clone(), made.codebook.grad.clone()
    logits.grad = made.codebook.grad = None
    soft = ((logits + noise) / 0.7).softmax(dim=1)
    hard = F.one_hot(soft.argmax(dim=1), NUM_ENTRIES).permute(0, 3, 1, 2).float()
    rows = hard + soft - soft.detach() if straight_through else soft
    expected = torch.einsum("bkhw,kd->bdhw", rows, made.codebook)
    expected.backward(upstream)
    torch.testing.assert_close(quantized.detach(), expected.detach())
    assert torch.equal(indices, soft.argmax(dim=1))
    torch.testing.assert_close(ours[0], logits.grad)
    torch.testing.assert_close(ours[1], made.codebook.grad)


def test_divergence_from_the_uniform_distribution() -> None:
    assert float(uniform_divergence(torch.zeros(1, 8, 2, 2))) == pytest.approx(0, abs=1e-6)
    sure = torch.zeros(1, 8, 2, 2)
    sure[:, 3] = 100.0
    assert float(uniform_divergence(sure)) == pytest.approx(math.log(8))
    made = quantizer(kl_weight=0.5)
    torch.testing.assert_close(made(latents()).loss, 0.5 * uniform_divergence(made.logits(latents())))
    made.kl_factor = 0.25
    torch.testing.assert_close(made(latents()).loss, 0.125 * uniform_divergence(made.logits(latents())))


def test_temperature_falls_from_step_to_step() -> None:
    config = GumbelQuantizerConfig(
        temperature_start=0.5, temperature_peak=1.0, temperature_warmup_steps=10, temperature_decay_steps=110
    )
    values = [gumbel_temperature(config, step) for step in (0, 5, 10, 60, 110, 500)]
    assert values == pytest.approx([0.5, 0.75, 1.0, (1 + 1 / 16) / 2, 1 / 16, 1 / 16])


def test_bf16_latents_are_judged_in_fp32() -> None:
    made, z = quantizer().eval(), latents().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = made(z)
    assert (result.loss.dtype, result.quantized.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(result.indices, made.encode(z.float()))
