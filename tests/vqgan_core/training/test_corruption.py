"""What training changes about how tokens are read: shares, streams, schedules, and that targets stay clean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vqgan_core.training.steps import SPEC, prior_config, tokens_of
from vqgan_core.config import RandomOrderConfig, TrainingConfig
from vqgan_core.prior import Reading
from vqgan_core.prior.orders import random_orders
from vqgan_core.training import PriorStep, learning_rate
from vqgan_core.training.corruption import Corruption, corruption, reading
from vqgan_core.training.schedule import random_order_probability

EVERYTHING = {"token_corruption": 0.3, "token_dropout": 0.2, "order": "random_annealed"}


def drawn(step: int = 0, size: int = 4, **overrides: Any) -> dict[str, Tensor]:
    return Corruption(prior_config(**overrides), SPEC).draw(tokens_of(0, size)["tokens"], step)


def test_a_share_of_the_tokens_is_replaced_by_uniform_ones() -> None:
    tokens = torch.full((400, 50), 3)
    replaced, noise = corruption((400, 50), 0.4, 8, torch.Generator().manual_seed(0))
    corrupted = torch.where(replaced, noise, tokens)
    counts = corrupted.flatten().bincount(minlength=8) / corrupted.numel()
    expected = torch.full((8,), 0.4 / 8)
    expected[3] += 0.6
    torch.testing.assert_close(counts, expected, atol=0.01, rtol=0)


def test_a_share_of_the_tokens_is_hidden() -> None:
    hidden = drawn(size=500, token_dropout=0.2)["hidden"]
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.02)


def test_nothing_is_drawn_for_what_is_switched_off() -> None:
    assert drawn() == {}
    assert set(drawn(**EVERYTHING)) == {"inputs", "hidden", "orders"}


def test_each_has_a_stream_of_its_own() -> None:
    together = drawn(**EVERYTHING)
    alone = {**drawn(token_corruption=0.3), **drawn(token_dropout=0.2), **drawn(order="random_annealed")}
    assert all(torch.equal(together[name], alone[name]) for name in together)
    torch.manual_seed(123)
    assert torch.equal(drawn(**EVERYTHING)["orders"], together["orders"])


def test_orders_are_random_at_first_and_raster_in_the_end() -> None:
    raster = torch.arange(SPEC.num_tokens)
    shares = [
        float(
            (drawn(step, 400, order="random_annealed", training__num_steps=100)["orders"] == raster)
            .all(1)
            .float()
            .mean()
        )
        for step in (0, 49, 60, 70, 75, 99)
    ]
    assert shares == pytest.approx([0, 0, 0.4, 0.8, 1, 1], abs=0.07)


def test_the_probability_of_a_random_order_is_a_function_of_the_step() -> None:
    config = RandomOrderConfig(anneal_from=0.2, anneal_to=0.6, final=0.1)
    course = [random_order_probability(config, step, 10) for step in range(10)]
    assert course == pytest.approx([1, 1, 1, 0.775, 0.55, 0.325, 0.1, 0.1, 0.1, 0.1])
    sudden = RandomOrderConfig(anneal_from=0.5, anneal_to=0.5)
    assert [random_order_probability(sudden, step, 4) for step in range(4)] == [1, 1, 0, 0]


def test_the_loss_is_that_of_the_clean_tokens() -> None:
    config = prior_config(**EVERYTHING, dropout=0.0, condition_dropout=0.0)
    step, batch = PriorStep(config, SPEC), tokens_of(0)
    columns = Corruption(config, SPEC).draw(batch["tokens"], 0)
    with torch.no_grad():
        expected = step.prior.nll(batch["tokens"], batch["labels"], reading=reading(columns)).mean()
        clean = step.prior.nll(batch["tokens"], batch["labels"]).mean()
    loss = float(step.train_step(batch, 0)["loss"])
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert loss != pytest.approx(float(clean), rel=1e-5)


def test_validation_reads_clean_tokens_row_by_row() -> None:
    step, batch = PriorStep(prior_config(**EVERYTHING), SPEC), tokens_of(-1)
    with torch.no_grad():
        expected = step.prior.eval().nll(batch["tokens"], batch["labels"]).mean()
    assert step.validate([batch])["nll"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
def test_training_with_random_orders_learns_every_order(architecture: str) -> None:
    """Without annealing, both the raster and a random order are known in the end."""
    config = prior_config(
        order="random_annealed",
        architecture=architecture,
        dropout=0.0,
        random_order__anneal_from=1.0,
        random_order__anneal_to=1.0,
        training__num_steps=150,
        width=32,
    )
    step = PriorStep(config, SPEC)
    for number in range(150):
        step.train_step(tokens_of(number, size=16), number)
    # ln 11 = 2.4 nats, and only the first token is not certain: ln 3 / 12 = 0.09, or in a random order a bit more.
    batch = tokens_of(-1, size=32)
    assert step.validate([batch])["nll"] < 0.35
    orders = random_orders(32, SPEC.num_tokens, 1.0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert step.prior.nll(batch["tokens"], batch["labels"], reading=Reading(orders=orders)).mean() < 0.5


def test_activation_checkpointing_reaches_the_transformer_and_changes_no_loss() -> None:
    plain, saving = (
        PriorStep(prior_config(execution__activation_checkpointing=saving), SPEC) for saving in (False, True)
    )
    assert saving.prior.transformer.activation_checkpointing
    losses = []
    for step in (plain, saving):
        torch.manual_seed(0)
        losses.append([float(step.train_step(tokens_of(number), number)["loss"]) for number in range(3)])
    assert losses[0] == losses[1]


def test_wsd_rises_stays_and_falls_in_its_last_part() -> None:
    config = TrainingConfig(
        num_steps=20,
        learning_rate=2.0,
        schedule="wsd",
        warmup_steps=4,
        decay_fraction=0.25,
        final_learning_rate_fraction=0.1,
    )
    rates = [learning_rate(config, step) for step in range(20)]
    assert rates[:4] == pytest.approx([0.4, 0.8, 1.2, 1.6])
    assert rates[4:15] == [2.0] * 11
    assert rates[15:] == pytest.approx([2 * (1 - 0.9 * (k / 5) ** 0.5) for k in range(1, 6)])
    assert rates[-1] == pytest.approx(0.2)
    longer = config.model_copy(update={"num_steps": 40})
    assert [learning_rate(longer, step) for step in range(15)] == rates[:15]
