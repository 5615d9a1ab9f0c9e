"""The small parts: schedules, streams, EMA, precision, optimisers, means."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from vqgan_core.config import TrainingConfig
from vqgan_core.training import NonFiniteError, WeightsEma, autocast, learning_rate, prepare, resolve_device, streams
from vqgan_core.training.history import RunningMeans
from vqgan_core.training.optim import adam, clip_gradients, gradient_norm, require_finite, set_learning_rate


def test_learning_rate_rises_then_falls_and_no_step_is_lost() -> None:
    config = TrainingConfig(num_steps=100, learning_rate=2.0, warmup_steps=9, final_learning_rate_fraction=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == 2.0
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.2, abs=1e-3)
    assert learning_rate(config, 9, peak=7.0) == 7.0


def test_constant_schedule_keeps_the_peak_after_the_warm_up() -> None:
    config = TrainingConfig(num_steps=10, learning_rate=3.0, schedule="constant", warmup_steps=2)
    assert [learning_rate(config, step) for step in range(10)] == pytest.approx([1.0, 2.0] + [3.0] * 8)


@pytest.mark.parametrize("warmup_steps", [0, 1, 5])
def test_schedules_of_tiny_runs_are_finite_and_positive(warmup_steps: int) -> None:
    config = TrainingConfig(num_steps=1, learning_rate=1.0, warmup_steps=warmup_steps)
    assert 0 < learning_rate(config, 0) <= 1.0


def test_streams_of_a_seed_are_stable_and_independent() -> None:
    draw = torch.rand(4, generator=streams.stream(0, "noise"))
    torch.testing.assert_close(draw, torch.rand(4, generator=streams.stream(0, "noise")), rtol=0, atol=0)
    assert not torch.equal(draw, torch.rand(4, generator=streams.stream(0, "other")))
    assert not torch.equal(draw, torch.rand(4, generator=streams.stream(1, "noise")))


def test_seeded_repeats_initial_weights_and_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    weights = []
    for _ in range(2):
        with streams.seeded(3, "weights"):
            weights.append(nn.Linear(3, 3).weight)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(before, torch.get_rng_state())


def test_ema_follows_its_formula_and_resumes() -> None:
    model = nn.Linear(3, 2)
    ema, shadow = WeightsEma(model, 0.25), model.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        decay = min(0.25, (1 + step) / (10 + step))
        shadow = decay * shadow + (1 - decay) * model.weight.detach()
        ema.update()
        if step == 5:
            saved = copy.deepcopy(ema.state_dict())
            ema = WeightsEma(model, 0.25)
            ema.load_state_dict(saved)
    torch.testing.assert_close(ema.shadow(model.weight), shadow)


def test_ema_is_applied_inside_its_context_only_and_even_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = WeightsEma(model, 0.9)
    average, parameter = model[0].weight.detach().clone(), model[0].weight
    with torch.no_grad():
        parameter.add_(1.0)
    with ema.applied():
        assert torch.equal(parameter, average)
    with pytest.raises(ZeroDivisionError), ema.applied():
        raise ZeroDivisionError
    assert torch.equal(parameter, average + 1.0)
    model(torch.randn(4, 2))
    with ema.applied():  # buffers belong to no average: they stay the module's
        assert model[1].num_batches_tracked == 1


def test_ema_of_another_module_is_refused() -> None:
    with pytest.raises(ValueError, match="another module"):
        WeightsEma(nn.Linear(2, 2), 0.9).load_state_dict(WeightsEma(nn.Sequential(nn.Linear(2, 2)), 0.9).state_dict())


def test_adam_without_decay_is_the_originals_adam() -> None:
    one, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(one.state_dict())
    ours, theirs = (
        adam(one.parameters(), betas=(0.5, 0.9)),
        torch.optim.Adam(other.parameters(), 0.01, betas=(0.5, 0.9)),
    )
    for _ in range(5):
        x = torch.randn(7, 5)
        for model, optimizer in ((one, ours), (other, theirs)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
        set_learning_rate(ours, 0.01)
        ours.step()
        theirs.step()
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-6, atol=1e-7)


def test_gradients_are_clipped_to_the_global_norm() -> None:
    model = nn.Linear(4, 4)
    model(torch.randn(3, 4)).square().sum().mul(100).backward()
    parameters = list(model.parameters())
    norm = gradient_norm(parameters)
    assert norm > 1
    expected = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
    torch.testing.assert_close(norm, expected)
    clip_gradients(parameters, norm, None)
    torch.testing.assert_close(gradient_norm(parameters), norm)
    clip_gradients(parameters, norm, 0.5)
    assert gradient_norm(parameters).item() == pytest.approx(0.5, rel=1e-4)


def test_require_finite_names_what_is_not() -> None:
    fine = {"loss": torch.tensor(1.5), "gradient norm": torch.tensor(2.0, dtype=torch.bfloat16)}
    assert require_finite(fine) == {"loss": 1.5, "gradient norm": 2.0}
    with pytest.raises(NonFiniteError, match=r"^gradient norm is inf, discriminator loss is nan$"):
        require_finite(
            {**fine, "gradient norm": torch.tensor(torch.inf), "discriminator loss": torch.tensor(torch.nan)}
        )


def test_devices_that_are_not_there_are_named() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match=r"device cuda:99: PyTorch sees \d+ CUDA devices here; use cpu or auto"):
        resolve_device("cuda:99")


def test_fp32_means_fp32_and_bf16_runs_networks_in_bf16() -> None:
    device, model = torch.device("cpu"), nn.Linear(2, 2)
    prepare(device, num_threads=1)
    assert torch.get_num_threads() == 1
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    with autocast(device, "bf16"):
        assert model(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(device, "fp32"):
        assert model(torch.ones(1, 2)).dtype == torch.float32


def test_running_means_resume_to_the_bit_and_count_each_metric_for_itself() -> None:
    values = torch.randn(9).tolist()
    straight, resumed = RunningMeans(), RunningMeans()
    for index, value in enumerate(values):
        metrics = {"loss": torch.tensor(value), "rate": value / 3}
        if index % 2:
            metrics["late"] = torch.tensor(float(index))
        straight.add(metrics)
        resumed.add(metrics)
        saved, resumed = resumed.state_dict(), RunningMeans()
        resumed.load_state_dict(saved)
    assert straight.means() == resumed.means()
    assert straight.means()["late"] == 4.0
    straight.clear()
    assert straight.means() == {}
