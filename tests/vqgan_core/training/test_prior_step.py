"""The prior's step: likelihood, condition dropout, and the best weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vqgan_core.training.steps import SPEC, copied, endless, prior_config, tokens_of
from vqgan_core.config.tokens import ColumnSpec
from vqgan_core.prior import Prior
from vqgan_core.training import (
    Batch,
    Checkpoints,
    MemoryCheckpoints,
    NonFiniteError,
    PriorStep,
    TrainingInterrupted,
    TrainResult,
    train,
)


def step_of(**overrides: Any) -> PriorStep:
    return PriorStep(prior_config(**overrides), SPEC)


def run(
    step: PriorStep,
    validation: Any = lambda: [tokens_of(-1), tokens_of(-2)],
    checkpoints: Checkpoints | None = None,
    **kwargs: Any,
) -> TrainResult:
    return train(
        step,
        endless(tokens_of),
        validation,
        config=step.config.training,
        execution=step.config.execution,
        checkpoints=checkpoints or MemoryCheckpoints(),
        report=lambda _: None,
        **kwargs,
    )


def weights(step: PriorStep) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in step.prior.state_dict().items()}


@pytest.mark.parametrize("num_pieces", [2, 4])
def test_accumulation_has_the_gradient_of_the_whole_batch(num_pieces: int) -> None:
    whole, cut = step_of(dropout=0.0), step_of(dropout=0.0, training__accumulate_batches=num_pieces)
    one, other = whole.train_step(tokens_of(0), 0), cut.train_step(tokens_of(0), 0)
    assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)
    for (name, a), b in zip(whole.prior.named_parameters(), cut.prior.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_training_learns() -> None:
    step = step_of(dropout=0.0, condition_dropout=0.1, training__num_steps=80, training__validate_every_steps=20)
    result = run(step)
    assert result.history[0]["validation/nll"] < math.log(SPEC.codebook_size)
    assert result.history[-1]["validation/nll"] < 0.3


def test_validation_is_the_mean_over_tokens_and_draws_nothing() -> None:
    step, batch = step_of(), tokens_of(0, size=5)
    state = torch.get_rng_state()
    metrics = step.validate([{name: value[:3] for name, value in batch.items()}, tokens_of(0, size=5)])
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        nll = step.prior.eval().nll(batch["tokens"], batch["labels"])
    expected = (nll[:3].sum() + nll.sum()) / (8 * SPEC.num_tokens)
    assert metrics["nll"] == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="validation set is empty"):
        step.validate([])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_condition_is_hidden_from_a_share_of_the_records(share: float) -> None:
    step = step_of(condition_dropout=share)
    hidden = torch.cat([step._draw_hidden(100) for _ in range(40)])
    assert float(hidden.float().mean()) == pytest.approx(share, abs=0.03)
    step.train_step(tokens_of(0), 0)
    gradient = step.prior.class_embedding.weight.grad
    assert gradient is not None
    assert bool(gradient[: SPEC.num_classes].any()) == (share < 1)
    if share in (0.0, 1.0):
        assert bool(gradient[SPEC.num_classes].any()) == (share == 1)


STOPS_EARLY = {
    "training__num_steps": 60,
    "training__validate_every_steps": 2,
    "training__early_stop_validations": 3,
    "training__learning_rate": 3e-2,
}


def contradiction() -> list[Batch]:
    """Validation data that the training data contradicts: soon every step makes validation worse."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(SPEC.codebook_size, (16, SPEC.num_tokens), generator=generator)
    return [{"tokens": tokens, "labels": torch.zeros(16, dtype=torch.int64)}]


def test_the_best_weights_are_published_and_training_stops_early() -> None:
    step = step_of(**STOPS_EARLY)
    result = run(step, contradiction)
    assert result.stopped_early
    curve = [row["validation/nll"] for row in result.history]
    best = min(curve)
    assert curve[-1] > best
    assert result.num_steps == 2 * (curve.index(best) + 1) + 6
    published = Prior.from_files(step.result_files())
    with torch.no_grad():
        nll = published.nll(contradiction()[0]["tokens"], contradiction()[0]["labels"]).mean()
    assert float(nll) == pytest.approx(best, rel=1e-5)


def test_a_resumed_run_remembers_the_best_weights_and_how_long_ago_they_were() -> None:
    straight = step_of(**STOPS_EARLY)
    result = run(straight, contradiction)
    for stop_after in range(1, result.num_steps):
        checkpoints, asked = MemoryCheckpoints(), list[int]()
        with pytest.raises(TrainingInterrupted):
            run(
                step_of(**STOPS_EARLY),
                contradiction,
                checkpoints,
                should_stop=lambda asked=asked, n=stop_after: asked.append(0) or len(asked) == n,
            )
        resumed = step_of(**STOPS_EARLY)
        assert run(resumed, contradiction, checkpoints) == result
        assert resumed.result_files() == straight.result_files()


def test_before_a_validation_the_present_weights_are_published() -> None:
    step = step_of()
    step.train_step(tokens_of(0), 0)
    published = Prior.from_files(step.result_files()).state_dict()
    assert all(torch.equal(value, published[name]) for name, value in step.prior.state_dict().items())


def test_only_matrices_of_linear_layers_decay() -> None:
    step = step_of(training__weight_decay=0.3)
    groups = step._trained.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.3, 0.0}
    assert all(value.ndim == 2 for group in groups if group["weight_decay"] for value in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(step.prior.parameters()))


def test_a_broken_weight_moves_nothing() -> None:
    step = step_of()
    with torch.no_grad():
        step.prior.class_embedding.weight[0, 0] = torch.nan
    before = weights(step)
    with pytest.raises(NonFiniteError, match="loss is nan"):
        step.train_step({**tokens_of(0), "labels": torch.zeros(4, dtype=torch.int64)}, 0)
    for name, value in weights(step).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_condition_dropout_draws_from_a_stream_of_its_own() -> None:
    """Another condition dropout does not change the initial weights or the dropout of the network."""
    torch.manual_seed(3)
    one = step_of(condition_dropout=0.0)
    one_loss = one.train_step(tokens_of(0), 0)["loss"]
    torch.manual_seed(3)
    other = step_of(condition_dropout=1e-9)
    assert torch.equal(torch.as_tensor(one_loss), torch.as_tensor(other.train_step(tokens_of(0), 0)["loss"]))


def test_a_state_from_a_checkpoint_goes_on_as_the_original() -> None:
    step = step_of()
    step.train_step(tokens_of(0), 0)
    step.validate([tokens_of(-1)])
    resumed = step_of(training__seed=99)
    resumed.load_state_dict(copied(step.state_dict()))
    for one in (step, resumed):
        torch.manual_seed(0)
        one.train_step(tokens_of(1), 1)
        one.validate([tokens_of(-1)])
    assert step.result_files() == resumed.result_files()


def test_a_told_column_lowers_the_likelihood_only_where_it_is_the_right_one() -> None:
    """The column says where the grid starts to count from, unless it is hidden."""
    spec = SPEC.model_copy(update={"columns": (ColumnSpec(name="start", codebook_size=11, height=1, width=2),)})

    def batch_of(step: int, size: int = 16) -> Batch:
        start = torch.randint(11, (size, 1), generator=torch.Generator().manual_seed(step))
        return {"tokens": (start + torch.arange(SPEC.num_tokens)) % 11, "start": start.expand(-1, 2)}

    config = prior_config(
        dropout=0.0, condition="none", condition_columns=["start"], condition_dropout=0.3, training__num_steps=80,
        training__batch_size=16, training__accumulate_batches=2,
    )  # fmt: skip
    step = PriorStep(config, spec)
    for number in range(80):
        step.train_step(batch_of(number), number)
    held_out = batch_of(-1)
    right = step.validate([held_out])["nll"]
    wrong = step.validate([{**held_out, "start": held_out["start"].roll(1, 0)}])["nll"]
    assert right < 0.1 < math.log(11) / SPEC.num_tokens < wrong
    with torch.no_grad():
        untold = step.prior.eval().nll(held_out["tokens"], None, torch.ones(16, dtype=torch.bool), columns=held_out)
    assert float(untold[:, 0].mean()) > 0.9 * math.log(11)  # nobody can guess the start
