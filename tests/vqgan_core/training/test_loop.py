"""The loop: exact resume, cadences, interruption, early stop, and what it does about NaN."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vqgan_core.training.regression_step import RegressionStep, batches, poisoned, validation
from vqgan_core.config import TrainingConfig, TrainingExecution
from vqgan_core.training import (
    Batch,
    Checkpoints,
    DirectoryCheckpoints,
    MemoryCheckpoints,
    Progress,
    TrainingDiverged,
    TrainingInterrupted,
    TrainResult,
    history_bytes,
    train,
)

CONFIG = TrainingConfig(num_steps=11, batch_size=8, learning_rate=0.05, warmup_steps=2, validate_every_steps=4, seed=7)
EXECUTION = TrainingExecution(checkpoint_every_steps=3, log_every_steps=2)


class Killed(BaseException):
    """Stands for SIGKILL: no code of the loop may handle it."""


def run(
    checkpoints: Checkpoints,
    *,
    config: TrainingConfig = CONFIG,
    execution: TrainingExecution = EXECUTION,
    data: Any = batches,
    patience: int | None = None,
    **kwargs: Any,
) -> tuple[RegressionStep, TrainResult, list[Progress]]:
    step, messages = RegressionStep(config, patience), list[Progress]()
    result = train(
        step,
        data,
        validation,
        config=config,
        execution=execution,
        checkpoints=checkpoints,
        report=messages.append,
        **kwargs,
    )
    return step, result, messages


def killed_at(kill_step: int, data: Any = batches) -> Any:
    """Training data that kills the run the first time that this step's batch is asked for."""

    def stream(start_step: int) -> Iterator[Batch]:
        for step, batch in enumerate(data(start_step), start_step):
            if step == kill_step:
                raise Killed
            yield batch

    return stream


def assert_same(one: tuple[RegressionStep, TrainResult, Any], other: tuple[RegressionStep, TrainResult, Any]) -> None:
    assert one[0].result_files() == other[0].result_files()
    assert history_bytes(one[1].history) == history_bytes(other[1].history)
    assert one[1] == other[1]


@pytest.mark.parametrize("kill_step", range(CONFIG.num_steps))
def test_a_killed_run_ends_with_the_same_bytes(kill_step: int, tmp_path: Path) -> None:
    straight = run(MemoryCheckpoints())
    checkpoints = DirectoryCheckpoints(tmp_path)
    with pytest.raises(Killed):
        run(checkpoints, data=killed_at(kill_step))
    torch.manual_seed(kill_step)  # another process starts with other global random numbers
    assert_same(run(checkpoints), straight)


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    checkpoints = DirectoryCheckpoints(tmp_path)
    for kill_step in (1, 4, 4, 7, 10):
        with pytest.raises(Killed):
            run(checkpoints, data=killed_at(kill_step))
    assert_same(run(checkpoints), run(MemoryCheckpoints()))


@pytest.mark.parametrize("kill_step", range(1, CONFIG.num_steps))
@pytest.mark.parametrize("bad_steps", [(5,), (0,), (4, 5), (2, 9)])
def test_resume_is_exact_around_batches_that_are_left_out(kill_step: int, bad_steps: tuple[int, ...]) -> None:
    data = poisoned(*bad_steps)
    straight = run(MemoryCheckpoints(), data=data)
    checkpoints = MemoryCheckpoints()
    with pytest.raises(Killed):
        run(checkpoints, data=killed_at(kill_step, data))
    assert_same(run(checkpoints, data=data), straight)
    assert straight[1].skipped_steps == bad_steps


def test_a_finished_run_started_again_trains_nothing() -> None:
    checkpoints = MemoryCheckpoints()
    first = run(checkpoints)
    second = run(checkpoints)
    assert second[0].trained_steps == []
    assert_same(first, second)


def test_execution_does_not_change_numbers() -> None:
    other = TrainingExecution(checkpoint_every_steps=1, log_every_steps=1)
    assert_same(run(MemoryCheckpoints()), run(MemoryCheckpoints(), execution=other))


def test_resume_goes_on_at_the_very_step_of_the_checkpoint() -> None:
    """LlamaGen floors to the start of the epoch without a word."""
    checkpoints = MemoryCheckpoints()
    with pytest.raises(Killed):
        run(checkpoints, data=killed_at(8))
    asked: list[int] = []

    def recording(start_step: int) -> Iterator[Batch]:
        asked.append(start_step)
        return batches(start_step)

    step, _, _ = run(checkpoints, data=recording)
    assert asked == [6]
    assert step.trained_steps == [6, 7, 8, 9, 10]


def test_history_rows_at_the_cadence_of_validation_and_at_the_end() -> None:
    _, result, messages = run(MemoryCheckpoints())
    assert [row["step"] for row in result.history] == [4, 8, 11]
    assert [row["train/step"] for row in result.history] == [1.5, 5.5, 9.0]  # means of the steps between
    assert set(result.history[0]) == {"step", "train/loss", "train/gradient_norm", "train/step", "validation/loss"}
    assert [message.step for message in messages] == [2, 4, 6, 8, 10, 11]
    assert messages[1].metrics["validation/loss"] == result.history[0]["validation/loss"]
    assert all(message.num_steps == 11 for message in messages)


def test_history_bytes_are_json_lines_with_null_for_what_is_no_number() -> None:
    assert (
        history_bytes([{"step": 1, "a": 0.1}, {"step": 2, "a": None}]) == b'{"a":0.1,"step":1}\n{"a":null,"step":2}\n'
    )


@pytest.mark.parametrize("checkpoint_every_steps", [1, 3, 100])
@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_run_that_is_asked_to_stop_checkpoints_and_goes_on(checkpoint_every_steps: int, stop_after: int) -> None:
    checkpoints = MemoryCheckpoints()
    calls: list[int] = []
    execution = TrainingExecution(checkpoint_every_steps=checkpoint_every_steps)
    with pytest.raises(TrainingInterrupted, match=f"step {stop_after} of 11"):
        run(checkpoints, execution=execution, should_stop=lambda: calls.append(0) or len(calls) == stop_after)
    latest = checkpoints.load_latest()
    assert latest is not None
    assert latest[0] == stop_after
    resumed = run(checkpoints, execution=execution)
    assert resumed[0].trained_steps[0] == stop_after
    assert_same(resumed, run(MemoryCheckpoints()))


@pytest.mark.parametrize("kill_step", [3, 6, 9])
def test_early_stop_is_part_of_the_state(kill_step: int) -> None:
    config = CONFIG.model_copy(update={"num_steps": 200, "learning_rate": 0.05, "validate_every_steps": 3})
    straight = run(MemoryCheckpoints(), config=config, patience=2)
    assert straight[1].stopped_early
    assert kill_step < straight[1].num_steps < 200
    checkpoints = MemoryCheckpoints()
    with pytest.raises(Killed):
        run(checkpoints, config=config, patience=2, data=killed_at(kill_step))
    assert_same(run(checkpoints, config=config, patience=2), straight)
    assert run(checkpoints, config=config, patience=2)[0].trained_steps == []


@pytest.mark.parametrize("bad_step", [0, 2, 5, 10])
def test_nan_rolls_back_leaves_the_batch_out_and_says_so(bad_step: int) -> None:
    step, result, messages = run(MemoryCheckpoints(), data=poisoned(bad_step))
    assert result.num_steps == 11
    assert result.skipped_steps == (bad_step,)
    last_checkpoint = bad_step // 3 * 3
    said = [message for message in messages if message.message.startswith(f"step {bad_step}: loss is nan")]
    assert len(said) == 1
    assert f"went back to step {last_checkpoint}" in said[0].message
    assert said[0].step == last_checkpoint
    expected = [*range(bad_step), *range(last_checkpoint, bad_step), *range(bad_step + 1, 11)]
    assert step.trained_steps == expected
    assert result.history[-1]["skipped_steps"] == 1
    assert all(math.isfinite(value) for row in result.history for value in row.values() if value is not None)


def test_three_failures_in_a_row_end_the_run() -> None:
    with pytest.raises(TrainingDiverged, match=r"loss is nan.*steps 5, 6, 7.*last finite loss \d") as caught:
        run(MemoryCheckpoints(), data=poisoned(5, 6, 7, 8))
    assert caught.value.steps == (5, 6, 7)
    assert caught.value.last_finite_loss is not None


def test_failures_from_the_first_step_on_end_the_run() -> None:
    execution = TrainingExecution(checkpoint_every_steps=1)
    with pytest.raises(TrainingDiverged, match="steps 0, 1, 2, one after another, no step had a finite loss"):
        run(MemoryCheckpoints(), execution=execution, data=poisoned(*range(11)))


def test_a_checkpoint_right_after_a_batch_was_left_out_is_no_recovery() -> None:
    execution = TrainingExecution(checkpoint_every_steps=1)
    with pytest.raises(TrainingDiverged) as caught:
        run(MemoryCheckpoints(), execution=execution, data=poisoned(4, 5, 6))
    assert caught.value.steps == (4, 5, 6)


def test_failures_with_good_checkpoints_between_do_not_add_up() -> None:
    _, result, _ = run(MemoryCheckpoints(), data=poisoned(1, 4, 7, 10))
    assert result.skipped_steps == (1, 4, 7, 10)


def test_a_killed_run_does_not_forget_its_failures() -> None:
    checkpoints, data = MemoryCheckpoints(), poisoned(3, 4, 5)
    with pytest.raises(Killed):
        run(checkpoints, data=killed_at(5, data))
    with pytest.raises(TrainingDiverged) as caught:
        run(checkpoints, data=data)
    assert caught.value.steps == (3, 4, 5)


def test_a_checkpoint_of_another_format_is_refused_with_the_way_out() -> None:
    checkpoints = MemoryCheckpoints()
    run(checkpoints)
    content = torch.load(io.BytesIO(checkpoints.data[11]), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**content, "version": content["version"] + 1}, buffer)
    checkpoints.save(11, buffer.getvalue())
    with pytest.raises(ValueError, match=r"step 11 has format 2, this version reads 1.*or delete its checkpoints"):
        run(checkpoints)
