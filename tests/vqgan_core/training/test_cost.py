"""The cost of a training run is what its real steps, validations and checkpoints take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.vqgan_core.training.steps import SPEC, images_of, prior_config, tokenizer_config, tokens_of
from vqgan_core.config import PriorConfig
from vqgan_core.losses.cost import loss_cost
from vqgan_core.prior.cost import prior_cost
from vqgan_core.tokenizer.cost import tokenizer_cost
from vqgan_core.training import DirectoryCheckpoints, PriorStep, TokenizerStep, train
from vqgan_core.training.cost import prior_training_cost, tokenizer_step_flops, tokenizer_training_cost

IMAGE = 16 * 16
FIRST_CONV = 2 * IMAGE * 9 * 1 * 8  # encoder.conv_in, and as much for decoder.conv_out
FIRST_OF_DISCRIMINATOR = 2 * 8 * 8 * 16 * 1 * 8


@pytest.mark.parametrize(
    ("step", "judges", "trains", "adaptive", "saved"),
    [
        (0, False, False, True, FIRST_CONV),
        (1, False, True, True, FIRST_CONV + 2 * FIRST_OF_DISCRIMINATOR),
        # Two gradients at the last layer, to be compared.
        (2, True, True, True, FIRST_CONV + 2 * FIRST_OF_DISCRIMINATOR - 2 * FIRST_CONV),
        (2, True, True, False, FIRST_CONV + 2 * FIRST_OF_DISCRIMINATOR),
    ],
)
def test_a_real_step_of_the_tokenizer(step: int, judges: bool, trains: bool, adaptive: bool, saved: int) -> None:
    """Equal to the operation, but for what the module's docstring leaves out, which is counted here by hand."""
    config = tokenizer_config(**{"loss.adversarial.adaptive": adaptive})
    trained = TokenizerStep(config)
    with FlopCounterMode(display=False) as counter:
        trained.train_step(images_of(0), step)
    network, loss = tokenizer_cost(config.model()), loss_cost(config.loss, 1, 16)
    expected = tokenizer_step_flops(config, network, loss, judges=judges, trains_discriminator=trains)
    assert counter.get_total_flops() == 4 * (expected - saved)


@pytest.mark.slow
def test_a_real_step_with_a_perceptual_network(shared_weights: Path) -> None:
    weights = str(shared_weights / "lpips_squeeze_v0.1_full_state.pth")
    lpips = {"kind": "lpips", "net": "squeeze", "weights": weights}
    config = tokenizer_config(**{"loss.perceptual": lpips, "autoencoder.resolution_px": 32})
    trained = TokenizerStep(config)
    images = nn.functional.interpolate(images_of(0)["images"], size=32)
    network, loss = tokenizer_cost(config.model()), loss_cost(config.loss, 1, 32)
    assert loss.perceptual_flops > 0
    for step, starts in ((0, False), (2, True)):
        with FlopCounterMode(display=False) as counter:
            trained.train_step({"images": images}, step)
        expected = 4 * tokenizer_step_flops(config, network, loss, judges=starts, trains_discriminator=starts)
        assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_a_whole_run_of_the_tokenizer_is_the_sum_of_its_steps() -> None:
    """Six steps of four images: the discriminator is trained in five and counts in four; two validations of seven."""
    config = tokenizer_config()
    network, loss = tokenizer_cost(config.model()), loss_cost(config.loss, 1, 16)
    cost = tokenizer_training_cost(config, num_validation_records=7)
    steps = [
        tokenizer_step_flops(config, network, loss, judges=step >= 2, trains_discriminator=step >= 1)
        for step in range(6)
    ]
    assert cost.flops == pytest.approx(4 * sum(steps) + 2 * 7 * network.reconstruct_flops, rel=1e-12)
    assert cost.num_parameters == network.num_parameters + loss.num_parameters


def test_a_whole_run_of_the_prior_is_the_sum_of_its_steps() -> None:
    config = prior_config(**{"training.num_steps": 7})
    cost = prior_training_cost(config, SPEC, num_validation_records=5)
    one = prior_cost(PriorConfig(num_layers=2, num_heads=2, width=16), SPEC)
    assert cost.flops == 7 * 4 * one.training_flops_per_image + 3 * 5 * 12 * one.forward_flops_per_token
    assert cost.num_parameters == one.num_parameters
    again = prior_config(**{"training.num_steps": 7, "execution.activation_checkpointing": True})
    extra = prior_training_cost(again, SPEC, num_validation_records=5).flops - cost.flops
    assert extra == 7 * 4 * 12 * one.forward_flops_per_token


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_tokenizers_checkpoint_and_files_have_the_foreseen_size(tmp_path: Path, ema: float | None) -> None:
    config = tokenizer_config(**{"training.ema_decay": ema, "autoencoder.base_channels": 32})
    cost = tokenizer_training_cost(config, 4)
    step = TokenizerStep(config)
    size = _checkpoint_bytes(step, images_of, config, tmp_path)
    assert size == pytest.approx(cost.checkpoint_bytes, rel=0.1)
    weights = [data for name, data in step.result_files().items() if name.endswith(".safetensors")]
    assert sum(map(len, weights)) == pytest.approx(cost.published_bytes, rel=0.1)


def test_a_priors_checkpoint_and_files_have_the_foreseen_size(tmp_path: Path) -> None:
    config = prior_config(width=64)
    cost = prior_training_cost(config, SPEC, 4)
    step = PriorStep(config, SPEC)
    assert _checkpoint_bytes(step, tokens_of, config, tmp_path) == pytest.approx(cost.checkpoint_bytes, rel=0.1)
    assert len(step.result_files()["model.safetensors"]) == pytest.approx(cost.published_bytes, rel=0.1)


def test_a_discriminator_that_starts_after_the_end_costs_nothing() -> None:
    late = tokenizer_config(**{"loss.adversarial.start_step": 9, "loss.adversarial.discriminator_start_step": 6})
    never = tokenizer_config(**{"loss.adversarial": "none"})
    assert tokenizer_training_cost(late, 0).flops == tokenizer_training_cost(never, 0).flops
    assert math.isfinite(tokenizer_training_cost(never, 0).flops)


def _checkpoint_bytes(step: Any, batch: Any, config: Any, folder: Path) -> int:
    train(
        step, lambda start: map(batch, range(start, 99)), lambda: [batch(100)], config=config.training,
        execution=config.execution, checkpoints=DirectoryCheckpoints(folder), report=lambda _: None,
    )  # fmt: skip
    return max(path.stat().st_size for path in folder.iterdir())
