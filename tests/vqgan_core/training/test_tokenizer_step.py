"""The tokenizer's step: what moves when, and that it moves by the right amount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from tests.vqgan_core.training.steps import copied, endless, images_of, tokenizer_config
from vqgan_core.training import MemoryCheckpoints, NonFiniteError, Progress, TokenizerStep, train

VQ_VAE = {"loss__adversarial": "none"}


def step_of(**overrides: Any) -> TokenizerStep:
    return TokenizerStep(tokenizer_config(**overrides))


def weights(module: nn.Module | None) -> dict[str, Tensor]:
    assert module is not None
    return {name: value.clone() for name, value in module.state_dict().items()}


def gradients(module: nn.Module | None) -> dict[str, Tensor]:
    assert module is not None
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("num_pieces", [2, 4])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_accumulation_has_the_gradient_of_the_whole_batch(num_pieces: int, clip: float | None) -> None:
    """Discriminator too. ActNorm without λ: BatchNorm and λ belong to a piece (said in `pieces`)."""
    common = {
        "loss__adversarial__norm": "actnorm",
        "loss__adversarial__adaptive": False,
        "loss__adversarial__start_step": 0,
        "loss__adversarial__discriminator_start_step": 0,
        "training__gradient_clip": clip,
    }
    whole, cut = step_of(**common), step_of(**common, training__accumulate_batches=num_pieces)
    whole.train_step(images_of(0), 0)  # ActNorm takes its scale from the first batch
    cut.load_state_dict(copied(whole.state_dict()))
    one, other = whole.train_step(images_of(1), 1), cut.train_step(images_of(1), 1)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert float(value) == pytest.approx(float(other[name]), rel=1e-4, abs=1e-6), name
    for a, b in ((whole.tokenizer, cut.tokenizer), (whole.loss.discriminator, cut.loss.discriminator)):
        torch.testing.assert_close(gradients(a), gradients(b), rtol=1e-3, atol=1e-6)


def test_batches_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images does not divide into 2 equal pieces"):
        step_of(training__accumulate_batches=2).train_step(images_of(0, size=3), 0)


def test_one_pass_through_the_autoencoder_a_step() -> None:
    """The original decodes every batch twice."""
    step, calls = step_of(), list[str]()
    step.tokenizer.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    step.tokenizer.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    assert step.loss.discriminator is not None
    step.loss.discriminator.register_forward_hook(lambda *_: calls.append("discriminator"))
    step.train_step(images_of(0), 5)
    assert sorted(calls) == ["decoder", *["discriminator"] * 3, "encoder"]


def test_the_discriminator_is_trained_from_its_own_start_and_felt_from_the_other() -> None:
    """There, it gets no training before it is felt, and trainings break at that step (taming#20, #44, #93)."""
    step = step_of(loss__adversarial__discriminator_start_step=1, loss__adversarial__start_step=3)
    moved, felt = [], []
    for index in range(5):
        before = weights(step.loss.discriminator)
        metrics = step.train_step(images_of(index), index)
        moved.append(not same(before, weights(step.loss.discriminator)))
        felt.append(float(metrics["adversarial_factor"]) > 0 and "adaptive_weight" in metrics)
        assert ("discriminator_gradient_norm" in metrics) == moved[-1]
    assert moved == [False, True, True, True, True]
    assert felt == [False, False, False, True, True]


def test_the_autoencoder_does_not_feel_a_discriminator_that_trains_ahead() -> None:
    ahead, without = step_of(loss__adversarial__start_step=9), step_of(**VQ_VAE)
    for index in range(3):
        ahead.train_step(images_of(index), index)
        without.train_step(images_of(index), index)
    assert same(weights(ahead.tokenizer), weights(without.tokenizer))


def test_the_discriminator_has_a_learning_rate_of_its_own() -> None:
    step = step_of(loss__adversarial__learning_rate=0.5, training__schedule="constant")
    step.train_step(images_of(0), 2)
    assert step._discriminator is not None
    assert step._discriminator.optimizer.param_groups[0]["lr"] == 0.5
    assert step._autoencoder.optimizer.param_groups[0]["lr"] == 1e-3


def test_resume_restores_the_discriminators_optimiser() -> None:
    """rq-vae-transformer saves only the autoencoder's."""
    step = step_of()
    for index in range(3):
        step.train_step(images_of(index), index)
    resumed, forgetful = step_of(), step_of()
    resumed.load_state_dict(copied(step.state_dict()))
    state = copied(step.state_dict())
    state["discriminator"]["optimizer"]["state"] = {}
    forgetful.load_state_dict(state)
    for one in (step, resumed, forgetful):
        one.train_step(images_of(3), 3)
    assert same(weights(step.loss.discriminator), weights(resumed.loss.discriminator))
    assert not same(weights(step.loss.discriminator), weights(forgetful.loss.discriminator))


def test_lecam_follows_once_a_step_and_is_resumed() -> None:
    """SEED-Voken does not save its averages."""
    overrides = {"loss__adversarial__lecam_weight": 0.1, "loss__adversarial__lecam_decay": 0.5}
    step = step_of(**overrides, training__accumulate_batches=2)
    assert step.loss.lecam is not None
    assert "lecam" not in step.train_step(images_of(0), 0)
    metrics = step.train_step(images_of(1), 1)
    assert float(metrics["lecam"]) > 0
    assert float(step.loss.lecam.real) == pytest.approx(0.5 * float(metrics["logits_real"]))
    resumed = step_of(**overrides, training__accumulate_batches=2)
    resumed.load_state_dict(copied(step.state_dict()))
    assert resumed.loss.lecam is not None
    assert float(resumed.loss.lecam.real) == float(step.loss.lecam.real) != 0


def test_a_nan_in_the_batch_moves_nothing() -> None:
    step = step_of()
    step.train_step(images_of(2), 2)
    before = weights(step.tokenizer), copied(step._autoencoder.optimizer.state_dict())
    batch = images_of(3)
    batch["images"][0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="loss is nan"):
        step.train_step(batch, 3)
    assert same(before[0], weights(step.tokenizer))
    torch.testing.assert_close(before[1]["state"], step._autoencoder.optimizer.state_dict()["state"], rtol=0, atol=0)


def test_an_infinite_gradient_under_a_finite_loss_moves_nothing() -> None:
    step = step_of()
    step.tokenizer.last_layer.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(step.tokenizer), weights(step.loss.discriminator)
    with pytest.raises(NonFiniteError, match=r"^gradient norm is (nan|inf)$"):
        step.train_step(images_of(0), 0)
    assert same(before[0], weights(step.tokenizer))
    assert same(before[1], weights(step.loss.discriminator))


def test_a_broken_discriminator_moves_nothing_either() -> None:
    step = step_of(loss__adversarial__start_step=9)
    assert step.loss.discriminator is not None
    with torch.no_grad():
        next(step.loss.discriminator.parameters()).fill_(torch.nan)
    before = weights(step.tokenizer)
    with pytest.raises(NonFiniteError, match=r"^discriminator is nan, discriminator gradient norm is nan$"):
        step.train_step(images_of(1), 1)
    assert same(before, weights(step.tokenizer))


def test_a_run_over_a_nan_goes_back_and_on() -> None:
    config, messages = tokenizer_config(training__ema_decay=0.5), list[Progress]()
    step = TokenizerStep(config)
    result = train(
        step,
        endless(images_of, poison_step=3),
        lambda: [images_of(-1)],
        config=config.training,
        execution=config.execution,
        checkpoints=MemoryCheckpoints(),
        report=messages.append,
    )
    assert result.skipped_steps == (3,)
    assert any("step 3: loss is nan" in m.message and "went back to step 2" in m.message for m in messages)
    assert all(torch.isfinite(value).all() for value in weights(step.loss).values())
    assert all(torch.isfinite(value).all() for value in load(step.result_files()["model.safetensors"]).values())


def test_gradients_are_clipped_and_logged_as_they_were() -> None:
    step = step_of(training__gradient_clip=1e-3)
    metrics = step.train_step(images_of(0), 2)
    for module, name in ((step.tokenizer, "gradient_norm"), (step.loss.discriminator, "discriminator_gradient_norm")):
        norm = torch.cat([value.flatten() for value in gradients(module).values()]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-2)
        assert float(metrics[name]) > 1e-2


def test_the_average_is_validated_and_published() -> None:
    step = step_of(training__ema_decay=0.99)
    for index in range(3):
        step.train_step(images_of(index), index)
    published = load(step.result_files()["model.safetensors"])
    present = weights(step.tokenizer)
    assert published.keys() == present.keys()
    assert not torch.equal(published["quantizer.codebook"], present["quantizer.codebook"])
    averaged = step.validate([images_of(-1)])
    step.tokenizer.load_state_dict(published)
    step._ema = None
    assert step.validate([images_of(-1)]) == averaged
    step.tokenizer.load_state_dict(present)
    assert step.validate([images_of(-1)]) != averaged


def test_dead_codes_restart_once_a_step_with_optimiser_and_average() -> None:
    step = step_of(
        **VQ_VAE,
        quantizer__restart_dead_codes_after_steps=2,
        training__accumulate_batches=4,
        training__ema_decay=0.99,
        codebook_size=256,
    )
    assert int(step.train_step(images_of(0), 0)["restarted_codes"]) == 0  # four pieces are one step
    codebook = step.tokenizer.quantizer.codebook
    moments = step._autoencoder.optimizer.state[codebook]
    for name in ("exp_avg", "exp_avg_sq"):
        moments[name].fill_(1.0)  # as of entries that had been in use
    assert int(step.train_step(images_of(1), 1)["restarted_codes"]) > 64
    assert step._ema is not None
    moved = codebook.abs().amax(dim=1) > 2 / 256  # entries begin within 1 / 256
    assert moved.sum() > 64
    torch.testing.assert_close(step._ema.shadow(codebook)[moved], codebook[moved])
    assert not moments["exp_avg"][moved].any()
    assert moments["exp_avg"][~moved].all()


@pytest.mark.parametrize("kind", ["ema", "residual"])
def test_a_restarted_entry_of_averages_is_not_drawn_back(kind: str) -> None:
    step = step_of(**VQ_VAE, quantizer__kind=kind, quantizer__restart_dead_codes_after_steps=1, codebook_size=256)
    quantizer = step.tokenizer.quantizer
    chosen = step.tokenizer.encode(images_of(0)["images"])
    dead = torch.bincount(chosen.flatten(), minlength=256) == 0
    assert int(step.train_step(images_of(0), 0)["restarted_codes"]) == int(dead.sum()) > 64
    assert quantizer.codebook[dead].abs().amax(dim=1).gt(1 / 256).float().mean() > 0.5, "on latents, which are larger"
    assert torch.equal(quantizer.sum_chosen[dead], quantizer.codebook[dead])
    assert quantizer.num_chosen[dead].eq(1).all()


def test_usage_is_the_share_of_codes_in_the_whole_batch() -> None:
    step = step_of(**VQ_VAE, training__accumulate_batches=2)
    indices = step.tokenizer.encode(images_of(0)["images"])
    assert float(step.train_step(images_of(0), 0)["usage"]) == indices.unique().numel() / 16


def test_validation_weighs_every_image_alike() -> None:
    step = step_of(**VQ_VAE)
    images = images_of(0, size=5)["images"]
    metrics = step.validate([{"images": images[:4]}, {"images": images[4:]}])
    with torch.no_grad():
        output = step.tokenizer(images)
    assert metrics["l1"] == pytest.approx((output.reconstruction - images).abs().mean().item(), rel=1e-5)
    errors = [(a.clamp(-1, 1) - b).square().mean().item() for a, b in zip(output.reconstruction, images, strict=True)]
    decibels = [10 * torch.log10(torch.tensor(4 / error)).item() for error in errors]
    assert metrics["psnr"] == pytest.approx(sum(decibels) / 5, rel=1e-5)
    assert metrics["quantizer"] == pytest.approx(output.loss.item(), rel=1e-4)
    used = output.indices.unique().numel()
    assert (metrics["usage"], metrics["dead_codes"]) == (used / 16, 16 - used)
    assert 1 <= metrics["perplexity"] <= used
    assert step.tokenizer.training


def test_validation_draws_nothing_and_needs_images() -> None:
    step = step_of(autoencoder__dropout=0.5)
    before = torch.get_rng_state()
    assert step.validate([images_of(0)]) == step.validate([images_of(0)])
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="validation set is empty"):
        step.validate([])


def test_bf16_keeps_weights_and_losses_in_fp32() -> None:
    step = step_of(training__precision="bf16")
    metrics = step.train_step(images_of(0), 2)
    assert all(value.dtype == torch.float32 for value in metrics.values() if isinstance(value, Tensor))
    assert all(value.dtype == torch.float32 for value in step.tokenizer.parameters())
    exact = step_of().train_step(images_of(0), 2)
    assert float(metrics["loss"]) != float(exact["loss"])
    assert float(metrics["reconstruction"]) == pytest.approx(float(exact["reconstruction"]), rel=0.05)


def test_initial_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    one = step_of()
    torch.manual_seed(1)
    assert same(weights(one.tokenizer), weights(step_of(**VQ_VAE).tokenizer))
    assert not same(weights(one.tokenizer), weights(step_of(training__seed=6).tokenizer))


def test_training_learns() -> None:
    step = step_of(training__num_steps=60, training__learning_rate=3e-3)
    before = step.validate([images_of(-1, size=16)])
    for index in range(60):
        step.train_step(images_of(index), index)
    after = step.validate([images_of(-1, size=16)])
    assert after["l1"] < 0.8 * before["l1"]
    assert after["psnr"] > before["psnr"] + 1


def test_lpips_is_trained_with_and_validated(shared_weights: Path) -> None:
    paths = sorted(shared_weights.rglob("*squeeze*"))
    assert paths, "the shared weights have LPIPS for squeeze"
    step = step_of(
        loss__perceptual={"kind": "lpips", "net": "squeeze", "weights": str(paths[0])}, autoencoder__resolution_px=32
    )
    batch = {"images": nn.functional.interpolate(images_of(0, size=2)["images"], scale_factor=2)}
    metrics = step.train_step(batch, 2)
    assert float(metrics["perceptual"]) > 0
    assert step.validate([batch])["perceptual"] > 0
    assert not any("perceptual" in name for name in load(step.result_files()["discriminator.safetensors"]))
