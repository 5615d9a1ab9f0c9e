"""Activations that are computed a second time: the same bits, and fewer of them kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tests.vqgan_core.training.quantizer_kinds import KINDS, TOKENIZERS, batch_of
from tests.vqgan_core.training.steps import images_of, tokenizer_config
from vqgan_core.training import TokenizerStep


def step_of(*, checkpointing: bool, **overrides: Any) -> TokenizerStep:
    return TokenizerStep(tokenizer_config(**overrides, execution__activation_checkpointing=checkpointing))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_the_same_to_the_bit(precision: str) -> None:
    """With dropout, accumulation, attention, and the adaptive weight, which goes backward three times."""
    overrides = {
        "autoencoder__dropout": 0.2,
        "autoencoder__attention_resolutions": [8],
        "training__accumulate_batches": 2,
        "training__precision": precision,
    }
    ended = []
    for checkpointing in (False, True):
        step = step_of(checkpointing=checkpointing, **overrides)
        torch.manual_seed(3)
        metrics = [step.train_step(images_of(index), index) for index in range(4)]
        ended.append((step.result_files(), [{name: float(v) for name, v in row.items()} for row in metrics]))
    assert "adaptive_weight" in ended[0][1][-1]
    assert ended[0] == ended[1]


@pytest.mark.parametrize("variant", [*KINDS, *TOKENIZERS])
def test_no_tokenizer_notices(variant: str) -> None:
    """Noise is drawn, and codebooks move, as often as without."""
    overrides = TOKENIZERS.get(variant) or {**KINDS[variant], "loss__adversarial": "none"}
    ended = []
    for checkpointing in (False, True):
        step = step_of(checkpointing=checkpointing, **overrides)
        torch.manual_seed(3)  # of dropout
        for index in range(3):
            step.train_step(batch_of(step.config, index, size=4), index)
        ended.append(step.result_files())
    assert ended[0] == ended[1]


def kept_bytes(step: TokenizerStep) -> int:
    """What a forward pass holds on to until the backward pass, parameters left out."""
    found: dict[int, int] = {}
    parameters = {p.data_ptr() for p in step.tokenizer.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            found[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = step.tokenizer(images_of(0)["images"])
        del output
    return sum(found.values())


def test_less_is_kept() -> None:
    blocks = {"autoencoder__num_res_blocks": 3}
    assert kept_bytes(step_of(checkpointing=True, **blocks)) < 0.6 * kept_bytes(step_of(checkpointing=False, **blocks))


def test_without_gradients_nothing_is_computed_twice() -> None:
    step = step_of(checkpointing=True)
    images = images_of(0)["images"]
    calls: list[int] = []
    step.tokenizer.encoder.level0.block0.conv1.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        step.tokenizer(images)
    assert len(calls) == 1
    step.tokenizer(images).reconstruction.sum().backward()
    assert len(calls) == 3
