"""The real steps: a run that is killed at any step ends with the same bytes as one that was not."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vqgan_core.training.quantizer_kinds import KINDS
from tests.vqgan_core.training.steps import SPEC, endless, images_of, prior_config, tokenizer_config, tokens_of
from vqgan_core.training import (
    Checkpoints,
    DirectoryCheckpoints,
    MemoryCheckpoints,
    PriorStep,
    TokenizerStep,
    history_bytes,
    train,
)

EVERYTHING = {
    "autoencoder__dropout": 0.1,
    "training__accumulate_batches": 2,
    "training__ema_decay": 0.5,
    "training__warmup_steps": 2,
    "quantizer__restart_dead_codes_after_steps": 2,
}
TOKENIZER_VARIANTS: dict[str, dict[str, Any]] = {
    "everything": EVERYTHING,
    "everything in bf16": {**EVERYTHING, "training__precision": "bf16"},
    "actnorm": {"loss__adversarial__norm": "actnorm", "autoencoder__dropout": 0.1},
    "vq-vae": {"loss__adversarial": "none", "quantizer__l2_normalize": True},
    "regularised in bf16": {
        "loss__adversarial__norm": "spectral",
        "loss__adversarial__lecam_weight": 0.1,
        "perturbation__image_fraction": 0.5,
        "training__accumulate_batches": 2,
        "training__precision": "bf16",
    },
}
#: The other quantizers, with everything around them that moves.
QUANTIZER_VARIANTS: dict[str, dict[str, Any]] = {
    kind: {"training__accumulate_batches": 2, "training__ema_decay": 0.5, **overrides}
    for kind, overrides in KINDS.items()
    if kind not in ("vector", "l2")
}
PRIOR_VARIANTS: dict[str, dict[str, Any]] = {
    "class": {},
    "accumulated in bf16": {"training__accumulate_batches": 2, "training__precision": "bf16"},
    "unconditional with early stop": {"condition": "none", "training__early_stop_validations": 1},
    "modern, corrupted, in random orders": {
        "architecture": "modern",
        "order": "random_annealed",
        "token_corruption": 0.2,
        "token_dropout": 0.1,
        "training__schedule": "wsd",
        "execution__activation_checkpointing": True,
    },
}


class Killed(BaseException):
    """Stands for SIGKILL: no code of the loop may handle it."""


def killed_at(kill_step: int, data: Any) -> Any:
    def stream(start_step: int) -> Iterator[Any]:
        for step, batch in enumerate(data(start_step), start_step):
            if step == kill_step:
                raise Killed
            yield batch

    return stream


def run_tokenizer(variant: str, checkpoints: Checkpoints, kill_step: int = -1) -> dict[str, bytes]:
    config = tokenizer_config(**(TOKENIZER_VARIANTS | QUANTIZER_VARIANTS)[variant])
    return _run(TokenizerStep(config), config, images_of, checkpoints, kill_step)


def run_prior(variant: str, checkpoints: Checkpoints, kill_step: int = -1) -> dict[str, bytes]:
    config = prior_config(**PRIOR_VARIANTS[variant])
    return _run(PriorStep(config, SPEC), config, tokens_of, checkpoints, kill_step)


def _run(step: Any, config: Any, batch_of: Any, checkpoints: Checkpoints, kill_step: int) -> dict[str, bytes]:
    result = train(
        step,
        killed_at(kill_step, endless(batch_of)),
        lambda: [batch_of(-1), batch_of(-2, size=2)],
        config=config.training,
        execution=config.execution,
        checkpoints=checkpoints,
        report=lambda _: None,
    )
    return {**step.result_files(), "curves.jsonl": history_bytes(result.history)}


@functools.cache
def straight(run: Any, variant: str) -> dict[str, bytes]:
    files: dict[str, bytes] = run(variant, MemoryCheckpoints())
    return files


@pytest.mark.parametrize("kill_step", range(6))
@pytest.mark.parametrize(
    ("run", "variant"),
    [*((run_tokenizer, name) for name in TOKENIZER_VARIANTS), *((run_prior, name) for name in PRIOR_VARIANTS)],
)
def test_a_killed_run_ends_with_the_same_bytes(run: Any, variant: str, kill_step: int, tmp_path: Path) -> None:
    checkpoints = DirectoryCheckpoints(tmp_path)
    with pytest.raises(Killed):
        run(variant, checkpoints, kill_step)
    torch.manual_seed(kill_step)  # another process starts with other global random numbers
    torch.rand(3)
    assert run(variant, checkpoints) == straight(run, variant)


@pytest.mark.parametrize("kill_step", [1, 3, 4])
@pytest.mark.parametrize("variant", QUANTIZER_VARIANTS)
def test_a_killed_run_of_any_quantizer_ends_with_the_same_bytes(variant: str, kill_step: int, tmp_path: Path) -> None:
    test_a_killed_run_ends_with_the_same_bytes(run_tokenizer, variant, kill_step, tmp_path)


def test_the_files_that_are_published() -> None:
    assert set(straight(run_tokenizer, "everything")) == {
        "config.json",
        "model.safetensors",
        "discriminator.safetensors",
        "curves.jsonl",
    }
    assert set(straight(run_tokenizer, "vq-vae")) == {"config.json", "model.safetensors", "curves.jsonl"}
    assert set(straight(run_prior, "class")) == {"config.json", "model.safetensors", "curves.jsonl"}


def test_rows_of_the_curves() -> None:
    rows = [json.loads(line) for line in straight(run_tokenizer, "everything")["curves.jsonl"].splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    assert set(rows[1]) == {
        "step",
        *(f"validation/{name}" for name in ("l1", "psnr", "quantizer", "usage", "perplexity", "dead_codes")),
        *(f"train/{name}" for name in ("loss", "reconstruction", "pixel", "quantizer", "usage", "restarted_codes")),
        *(f"train/{name}" for name in ("adversarial_factor", "adaptive_weight", "generator", "discriminator")),
        *(f"train/{name}" for name in ("logits_real", "logits_fake", "learning_rate")),
        *(f"train/{name}" for name in ("gradient_norm", "discriminator_gradient_norm")),
    }
    rows = [json.loads(line) for line in straight(run_prior, "class")["curves.jsonl"].splitlines()]
    assert set(rows[0]) == {
        "step",
        "train/loss",
        "train/gradient_norm",
        "train/learning_rate",
        "validation/nll",
        "validation/best_nll",
    }
