"""On a GPU, too, a killed run ends with the same bytes; skipped by name where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vqgan_core.training.steps import SPEC, endless, images_of, prior_config, tokenizer_config, tokens_of
from tests.vqgan_core.training.test_exact_resume import EVERYTHING, Killed, killed_at
from vqgan_core.training import Checkpoints, MemoryCheckpoints, PriorStep, TokenizerStep, history_bytes, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
]


def run(kind: str, precision: str, checkpoints: Checkpoints, kill_step: int = -1) -> dict[str, bytes]:
    common = {"execution__device": "cuda", "training__precision": precision}
    config: Any = tokenizer_config(**EVERYTHING, **common) if kind == "tokenizer" else prior_config(**common)
    step: Any = TokenizerStep(config) if kind == "tokenizer" else PriorStep(config, SPEC)
    batch_of: Any = images_of if kind == "tokenizer" else tokens_of
    result = train(
        step,
        killed_at(kill_step, endless(batch_of)),
        lambda: [batch_of(-1)],
        config=config.training,
        execution=config.execution,
        checkpoints=checkpoints,
        report=lambda _: None,
    )
    return {**step.result_files(), "curves.jsonl": history_bytes(result.history)}


@pytest.mark.parametrize("kind", ["tokenizer", "prior"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kill_step", [1, 3, 5])
def test_a_killed_run_ends_with_the_same_bytes(kind: str, precision: str, kill_step: int) -> None:
    checkpoints = MemoryCheckpoints()
    with pytest.raises(Killed):
        run(kind, precision, checkpoints, kill_step)
    torch.manual_seed(kill_step)
    assert run(kind, precision, checkpoints) == run(kind, precision, MemoryCheckpoints())
