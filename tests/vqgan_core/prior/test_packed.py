"""A network laid out for drawing says what its original says, one row at a time or many, and leaves that as it was."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, Sampler, sample_large, sample_tokens
from vqgan_core.prior.packed import for_drawing
from vqgan_core.prior.packed_linear import PackedLinear

FP32, FP16 = SamplingConfig(), SamplingConfig.model_validate({"precision": "fp16"})
TOLERANCE = {"fp32": 2e-5, "fp16": 3e-3}
EACH = pytest.mark.parametrize("architecture", ["gpt", "modern"])
BOTH = pytest.mark.parametrize("config", [FP32, FP16], ids=["fp32", "fp16"])


def make_prior(architecture: str, **others: object) -> Prior:
    torch.manual_seed(0)
    given = {"architecture": architecture, "num_layers": 2, "num_heads": 2, "width": 32, "dropout": 0.3, **others}
    prior = Prior(PriorConfig.model_validate(given), TokenSpec(codebook_size=64, height=4, width=4, num_classes=5))
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.2)
    return prior


def step_by_step(prior: Prior, config: SamplingConfig, tokens: Tensor, labels: Tensor) -> Tensor:
    network = for_drawing(prior.transformer, len(tokens), config)
    cache = network.new_cache(len(tokens), max_length=prior.max_length)
    steps = [network(tokens[:, :0], prior.condition(labels, len(tokens)), cache)]
    steps += [network(tokens[:, i : i + 1], None, cache) for i in range(prior.spec.num_tokens - 1)]
    return torch.cat(steps, dim=1)


@EACH
@BOTH
@torch.no_grad()
def test_cached_steps_give_the_originals_logits(architecture: str, config: SamplingConfig) -> None:
    prior = make_prior(architecture)
    tokens, labels = torch.randint(64, (6, 16)), torch.arange(6) % 5
    expected = prior.eval()(tokens, labels)
    found = step_by_step(prior.train(), config, tokens, labels)
    assert found.dtype == torch.float32
    error = ((found - expected).norm() / expected.norm()).item()
    assert error < TOLERANCE[config.precision]
    assert (error > TOLERANCE["fp32"]) == (config.precision == "fp16"), "fp16 is not fp32 by another name"


@EACH
@BOTH
def test_an_image_does_not_depend_on_its_batch(architecture: str, config: SamplingConfig) -> None:
    prior, labels = make_prior(architecture).eval(), torch.arange(12) % 5
    together = sample_tokens(prior, labels, range(12), config)
    assert len(together.unique(dim=0)) == 12
    for row in (0, 5, 11):
        assert torch.equal(sample_tokens(prior, labels[row : row + 1], [row], config)[0], together[row])


@BOTH
def test_a_sampler_lays_weights_out_once(config: SamplingConfig) -> None:
    prior, labels = make_prior("gpt").eval(), torch.arange(12) % 5
    with patch("vqgan_core.prior.sampling.for_drawing", wraps=for_drawing) as laying_out:
        sampler = Sampler(prior, config)
        batches = [sampler.sample(labels[rows], range(12)[rows]) for rows in (slice(5), slice(5, 10), slice(10, 12))]
    assert laying_out.call_count == 1
    assert torch.equal(torch.cat(batches), sample_tokens(prior, labels, range(12), config))


@EACH
def test_the_original_stays_as_it_was(architecture: str) -> None:
    prior = make_prior(architecture).train()
    before = {name: (id(module), module.training) for name, module in prior.named_modules()}
    drawing = for_drawing(prior.transformer, 4, FP16)
    assert {name: (id(module), module.training) for name, module in prior.named_modules()} == before
    assert not any(module.training for module in drawing.modules())
    own = {name: value.data_ptr() for name, value in prior.transformer.named_parameters()}
    shared = {name: value.data_ptr() for name, value in drawing.named_parameters()}
    assert shared.items() <= own.items(), "nothing but linear layers is copied"
    linear = [name for name, module in prior.transformer.named_modules() if isinstance(module, nn.Linear)]
    assert {name.rpartition(".")[0] for name in own.keys() - shared.keys()} == set(linear)


@BOTH
def test_without_kernels_for_it_it_is_the_same_layer(config: SamplingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers, x = [nn.Linear(24, 40), nn.Linear(24, 8)], torch.randn(3, 2, 24)
    laid_out = PackedLinear(layers, 6, config.precision)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
    plain = PackedLinear(layers, 6, config.precision)
    assert isinstance(plain._product, partial)
    assert not isinstance(laid_out._product, partial)
    torch.testing.assert_close(plain(x), laid_out(x), atol=2e-6, rtol=1e-5)
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    torch.testing.assert_close(laid_out(x), expected, atol=TOLERANCE[config.precision], rtol=1e-3)
    assert laid_out.sizes == [40, 8]


def test_a_weight_that_16_bits_cannot_hold_is_refused() -> None:
    prior = make_prior("gpt")
    with torch.no_grad():
        prior.transformer.head.weight[0, 0] = 1e5
    sample_tokens(prior, torch.arange(2), range(2), FP32)
    with pytest.raises(ValueError, match="holds no weight beyond ±65504"):
        sample_tokens(prior, torch.arange(2), range(2), FP16)


def test_large_grids_are_drawn_in_fp16_too() -> None:
    prior = make_prior("gpt").eval()
    of_own_size = sample_large(prior, torch.arange(3), range(3), FP16, (4, 4)).flatten(1)
    assert torch.equal(of_own_size, sample_tokens(prior, torch.arange(3), range(3), FP16))


def test_convolutions_draw_in_fp32_alone() -> None:
    given = {"architecture": "pixelcnn", "num_layers": 2, "num_heads": 2, "width": 8}
    prior = Prior(PriorConfig.model_validate(given), TokenSpec(codebook_size=8, height=3, width=3, num_classes=2))
    assert sample_tokens(prior, torch.arange(2), range(2), FP32).shape == (2, 9)
    with pytest.raises(ValueError, match="convolutional priors draw in fp32 alone"):
        sample_tokens(prior, torch.arange(2), range(2), FP16)
