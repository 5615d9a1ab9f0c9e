"""What holds for every tokenizer: train, encode, decode, save, load, resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vqgan_core.training.quantizer_kinds import KINDS, TOKENIZERS, batch_of
from tests.vqgan_core.training.steps import copied, images_of, tokenizer_config
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import NonFiniteError, TokenizerStep
from vqgan_core.training.images import images_of as images_of_batch

every_kind = pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS)
VQ_VAE = {"loss__adversarial": "none"}


@pytest.mark.parametrize("variant", [*KINDS, *TOKENIZERS])
def test_twenty_steps_then_encode_decode_save_load_and_resume(variant: str) -> None:
    overrides = TOKENIZERS.get(variant) or {**VQ_VAE, **KINDS[variant]}
    config = tokenizer_config(**overrides, training__num_steps=20, training__learning_rate=3e-3)
    step, batches = TokenizerStep(config), [batch_of(config, index, size=8) for index in range(20)]
    held_out = batch_of(config, -1, size=16)
    before = step.validate([held_out])
    for index, batch in enumerate(batches):
        if index == 10:
            halfway, random = copied(step.state_dict()), torch.get_rng_state()
        metrics = step.train_step(batch, index)
        assert all(0 < float(value) <= 1 for name, value in metrics.items() if name.startswith("usage"))
    after = step.validate([held_out])
    error = next(iter(after))  # l1, or the entropy of label maps
    assert after[error] < 0.9 * before[error]
    files = step.result_files()
    resumed = TokenizerStep(config)
    resumed.load_state_dict(halfway)
    torch.set_rng_state(random)  # as the loop does; dropout draws from it
    for index, batch in enumerate(batches[10:], 10):
        resumed.train_step(batch, index)
    assert resumed.result_files() == files, "to the bit"
    assert_encodes_and_decodes(step.tokenizer.eval(), images_of_batch(held_out, config))


def assert_encodes_and_decodes(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    grids = tokenizer.encode_levels(images)
    assert {name: tuple(grid.shape[1:]) for name, grid in grids.items()} == tokenizer.config.grids(*images.shape[2:])
    for name, indices in grids.items():
        assert indices.dtype == torch.int64
        assert torch.equal(tokenizer.encode_levels(images)[name], indices), "the same image, the same indices"
        assert torch.equal(tokenizer.encode_levels(images[3:5])[name], indices[3:5]), "whatever else is in the batch"
    with torch.no_grad():
        output = tokenizer(images)
        assert all(torch.equal(output.levels[name].indices, indices) for name, indices in grids.items())
        decoded = tokenizer.decode(*grids.values())
        torch.testing.assert_close(decoded, output.reconstruction, rtol=1e-4, atol=1e-5)
        loaded = Tokenizer.from_files(tokenizer.to_files())
        assert loaded.config == tokenizer.config
        assert all(torch.equal(loaded.encode_levels(images)[name], indices) for name, indices in grids.items())
        assert torch.equal(loaded.decode(*grids.values()), decoded)


@every_kind
def test_a_forward_in_training_changes_no_state(overrides: dict[str, Any]) -> None:
    """So that accumulation, activation checkpointing and validation cannot move a codebook."""
    tokenizer = TokenizerStep(tokenizer_config(**overrides)).tokenizer.train()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer(images_of(0)["images"])
    assert all(torch.equal(before[name], value) for name, value in tokenizer.state_dict().items())


@every_kind
def test_bf16_latents_are_quantized_in_fp32(overrides: dict[str, Any]) -> None:
    """The same indices, entries and loss as of the same numbers in fp32; only what is decoded has the latents' type."""
    quantizer = Tokenizer(tokenizer_config(**overrides).model()).quantizer.eval()
    latents = torch.randn(2, tokenizer_config(**overrides).latent_dim, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result, indices = quantizer(latents), quantizer.encode(latents)
    exact = quantizer(latents.float())
    assert (result.quantized.dtype, result.loss.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(result.indices, exact.indices)
    assert torch.equal(indices, exact.indices)
    assert torch.equal(result.loss, exact.loss)
    assert torch.equal(result.quantized, exact.quantized.bfloat16())


@every_kind
def test_a_step_that_fails_moves_no_codebook(overrides: dict[str, Any]) -> None:
    step = TokenizerStep(tokenizer_config(**VQ_VAE, **overrides))
    before = copied(step.tokenizer.state_dict())
    step.tokenizer.last_layer.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteError, match="gradient norm is nan"):
        step.train_step(images_of(0), 0)
    assert all(torch.equal(before[name], value) for name, value in step.tokenizer.state_dict().items())


@pytest.mark.parametrize("kind", ["vector", "ema with restart", "gumbel", "simvq", "residual with restart"])
def test_an_accumulated_step_is_the_whole_batchs(kind: str) -> None:
    overrides = {**VQ_VAE, **KINDS[kind], "training__schedule": "constant"}
    whole = TokenizerStep(tokenizer_config(**overrides))
    cut = TokenizerStep(tokenizer_config(**overrides, training__accumulate_batches=4))
    for index in range(3):
        one, other = (step.train_step(images_of(index), index) for step in (whole, cut))
        assert float(one["usage"]) == float(other["usage"])
    for name, value in whole.tokenizer.quantizer.state_dict().items():
        torch.testing.assert_close(cut.tokenizer.quantizer.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_gumbel_temperature_is_the_steps() -> None:
    step = TokenizerStep(tokenizer_config(**VQ_VAE, **KINDS["gumbel"]))
    values = [step.train_step(images_of(0), index)["temperature"] for index in (0, 0, 3)]
    assert values[0] == values[1] == 0.9
    assert values[2] == step.tokenizer.quantizer.temperature < 0.9
    assert "temperature" not in TokenizerStep(tokenizer_config(**VQ_VAE)).train_step(images_of(0), 0)


def test_the_gumbel_kl_term_rises_over_its_warm_up() -> None:
    """Half a cosine (arXiv 2102.12092 A.2); the rate is too small to change the divergence meanwhile."""
    overrides = {**VQ_VAE, **KINDS["gumbel"], "quantizer__kl_weight": 1.0, "training__learning_rate": 1e-12}
    step = TokenizerStep(tokenizer_config(**overrides, quantizer__kl_warmup_steps=8))
    losses = [float(step.train_step(images_of(0), index)["quantizer"]) for index in (0, 2, 4, 8, 9)]
    assert losses[3] > 0
    assert [loss / losses[3] for loss in losses] == pytest.approx([0, (1 - 0.5**0.5) / 2, 0.5, 1, 1], rel=1e-4)
