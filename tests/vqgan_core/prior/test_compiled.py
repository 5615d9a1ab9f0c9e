"""Steps of one shape, compiled or not, draw what steps that grow draw; what cannot be compiled is refused."""

from __future__ import annotations

import shutil
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tests.vqgan_core.prior.test_packed import make_prior
from vqgan_core.config import ConfigError, PriorConfig, SampleConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, Sampler, sample_tokens
from vqgan_core.prior.cache import CacheAt
from vqgan_core.prior.compiled import CompiledDecoder
from vqgan_core.prior.decoder import Decoder

LABELS = torch.arange(6) % 5
GPU = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)
CPU = pytest.param(
    "cpu", marks=pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
)


def make(architecture: str, **given: object) -> Prior:
    if architecture != "grouped":
        return make_prior(architecture, **given)
    return make_prior("modern", num_key_value_heads=1, **given)


def without_compiler(step: object, **_: object) -> object:
    """Stands for torch.compile where only the steps of one shape are of interest."""
    return step


@pytest.mark.parametrize("architecture", ["gpt", "modern", "grouped"])
@pytest.mark.parametrize("order", ["row", "spiral_in", "random_annealed"])
@torch.no_grad()
def test_a_step_of_one_shape_gives_the_logits_of_one_that_grows(architecture: str, order: str) -> None:
    prior = make(architecture, order=order).eval()
    network = prior.transformer
    assert isinstance(network, Decoder)
    tokens, prefix, orders = torch.randint(64, (6, 16)), prior.condition(LABELS, 6), prior.order[None]
    grown, fixed = network.new_cache(6), network.new_cache(6)
    at = CacheAt(fixed)
    for cache in (grown, fixed):
        network(tokens[:, :0], prefix, cache, prior.placement(orders, 0, 1))
    for index in range(prior.spec.num_tokens - 1):
        newest, placement = tokens[:, index : index + 1], prior.placement(orders, index + 1, index + 2)
        at.position.fill_(index + 1)
        expected = network(newest, None, grown, placement)
        torch.testing.assert_close(network.step(newest, at, placement), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
def test_batches_and_completions_are_those_of_an_uncompiled_sampler(architecture: str) -> None:
    prior, config = make(architecture).eval(), SamplingConfig(guidance=1.5)
    known = torch.full((6, 16), -1)
    known[:, :5] = torch.randint(64, (6, 5))
    with (
        patch("torch.compile", without_compiler),
        patch.object(Decoder, "step", autospec=True, side_effect=Decoder.step) as steps,
    ):
        sampler = Sampler(prior, config, compiled=True)
        whole, completed = sampler.sample(LABELS, range(6)), sampler.sample(LABELS, range(6), known=known)
        assert steps.call_count == 15 + 10
        last = sampler.sample(LABELS[:2], range(2))
        assert steps.call_count == 15 + 10, "a smaller batch is not what was compiled"
    assert torch.equal(whole, sample_tokens(prior, LABELS, range(6), config))
    assert torch.equal(completed, sample_tokens(prior, LABELS, range(6), config, known=known))
    assert torch.equal(last, whole[:2])


@pytest.mark.slow
@pytest.mark.parametrize("device", [CPU, GPU])
def test_compiled_steps_draw_the_same_images(device: str) -> None:
    prior, config = make("modern", num_layers=1).eval().to(device), SamplingConfig()
    sampler = Sampler(prior, config, compiled=True)
    labels: Tensor = LABELS.to(device)
    drawn = [sampler.sample(labels, range(start, start + 6)) for start in (0, 6)]
    assert isinstance(sampler._network, CompiledDecoder)
    assert len(torch.cat(drawn).unique(dim=0)) == 12
    for start, images in zip((0, 6), drawn, strict=True):
        expected = sample_tokens(prior, labels, range(start, start + 6), config)
        assert (images == expected).float().mean() > 0.9, (
            "rounding may decide a token, and with it the rest of its image"
        )


def test_convolutions_are_refused() -> None:
    given = {"architecture": "pixelcnn", "num_layers": 2, "num_heads": 2, "width": 8}
    prior = Prior(PriorConfig.model_validate(given), TokenSpec(codebook_size=8, height=3, width=3, num_classes=2))
    with pytest.raises(ValueError, match="convolutional priors cannot be compiled; leave it off"):
        Sampler(prior, SamplingConfig(), compiled=True)


@pytest.mark.parametrize(("other", "named"), [("size_px=[64,64]", "size_px"), ("num_beams=20", "num_beams")])
def test_it_goes_with_plain_draws_alone_and_is_no_part_of_the_recipe(other: str, named: str) -> None:
    compiled = SampleConfig.load(overrides=["execution.compile=true"])
    assert compiled.recipe() == SampleConfig().recipe()
    with pytest.raises(ConfigError, match=f"plain draws, not with {named}"):
        SampleConfig.load(overrides=["execution.compile=true", other])
