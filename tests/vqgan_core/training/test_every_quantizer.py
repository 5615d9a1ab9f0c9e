"""What holds for every quantizer inside a tokenizer: train, encode, decode, save, load."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vqgan_core.training.quantizer_kinds import KINDS
from tests.vqgan_core.training.steps import copied, images_of, tokenizer_config
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import NonFiniteError, TokenizerStep

every_kind = pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS)
VQ_VAE = {"loss__adversarial": "none"}


@every_kind
def test_twenty_steps_then_encode_decode_save_and_load(overrides: dict[str, Any]) -> None:
    step = TokenizerStep(tokenizer_config(**VQ_VAE, **overrides, training__num_steps=20, training__learning_rate=3e-3))
    images = images_of(-1, size=16)["images"]
    before = step.validate([{"images": images}])
    for index in range(20):
        metrics = step.train_step(images_of(index, size=8), index)
        assert 0 < float(metrics["usage"]) <= 1
    after = step.validate([{"images": images}])
    assert after["l1"] < 0.9 * before["l1"]
    tokenizer = step.tokenizer.eval()
    indices = tokenizer.encode(images)
    assert indices.dtype == torch.int64
    assert indices.shape[1:] == tokenizer.config.grid(*images.shape[2:])
    assert torch.equal(tokenizer.encode(images), indices), "the same image, the same indices"
    assert torch.equal(tokenizer.encode(images[3:5]), indices[3:5]), "whatever else is in the batch"
    with torch.no_grad():
        output = tokenizer(images)
        assert torch.equal(output.indices, indices)
        torch.testing.assert_close(tokenizer.decode(indices), output.reconstruction, rtol=1e-4, atol=1e-5)
        loaded = Tokenizer.from_files(tokenizer.to_files())
        assert loaded.config == tokenizer.config
        assert torch.equal(loaded.encode(images), indices)
        assert torch.equal(loaded.decode(indices), tokenizer.decode(indices))


@every_kind
def test_a_forward_in_training_changes_no_state(overrides: dict[str, Any]) -> None:
    """So that accumulation, activation checkpointing and validation cannot move a codebook."""
    tokenizer = TokenizerStep(tokenizer_config(**overrides)).tokenizer.train()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer(images_of(0)["images"])
    assert all(torch.equal(before[name], value) for name, value in tokenizer.state_dict().items())


@every_kind
def test_a_step_that_fails_moves_no_codebook(overrides: dict[str, Any]) -> None:
    step = TokenizerStep(tokenizer_config(**VQ_VAE, **overrides))
    before = copied(step.tokenizer.state_dict())
    step.tokenizer.last_layer.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteError, match="gradient norm is nan"):
        step.train_step(images_of(0), 0)
    assert all(torch.equal(before[name], value) for name, value in step.tokenizer.state_dict().items())


@pytest.mark.parametrize("kind", ["vector", "ema with restart", "simvq", "residual with restart"])
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
