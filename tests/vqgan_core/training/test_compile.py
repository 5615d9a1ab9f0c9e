"""Contract: a compiled prior trains as an eager one does, to rounding, and its files are the same."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.vqgan_core.training.steps import SPEC, prior_config, tokens_of
from vqgan_core.config import TrainPriorConfig
from vqgan_core.prior import Prior
from vqgan_core.training import PriorStep


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiling_changes_nothing_but_the_last_digits() -> None:
    steps = [
        PriorStep(prior_config(num_layers=1, dropout=0.0, execution__compile=compiled), SPEC)
        for compiled in (False, True)
    ]
    assert [step.prior.transformer._compiled_call_impl is not None for step in steps] == [False, True]
    figures = [[float(step.train_step(tokens_of(number), number)["loss"]) for number in range(3)] for step in steps]
    assert figures[1] == pytest.approx(figures[0], rel=1e-4)
    eager, compiled = (Prior.from_files(step.result_files()) for step in steps)
    for name, weights in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], weights, atol=1e-3, rtol=1e-2)


def test_it_is_no_part_of_the_recipe() -> None:
    compiled = TrainPriorConfig.load(overrides=["execution.compile=true"])
    assert compiled.execution.compile
    assert compiled.recipe() == TrainPriorConfig().recipe()
