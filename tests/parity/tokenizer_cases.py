"""Golden cases of the tokenizer side: how they are read, and our parts built from the original's parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vqgan_core.config import NoPerceptualConfig, PatchGanConfig, TokenizerLossConfig
from vqgan_core.legacy.taming_tokenizer import config_from_taming, import_taming_tokenizer
from vqgan_core.losses import TokenizerLoss
from vqgan_core.tokenizer import Tokenizer

Tensors = dict[str, Tensor]

FORWARD = {"atol": 2e-5, "rtol": 1e-4}
SCALAR = {"atol": 1e-6, "rtol": 1e-4}


def read_case(parity_dir: Path, name: str) -> dict[str, Any]:
    cases: dict[str, Any] = json.loads((parity_dir / "manifest.json").read_text())["cases"]
    if name not in cases:
        pytest.skip(f"these golden cases have no {name}")
    return dict(cases[name])


def read_tensors(parity_dir: Path, case: dict[str, Any]) -> Tensors:
    return load_file(parity_dir / case["file"])


def with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def assert_gradient(ours: Tensor | None, golden: Tensor, name: str) -> None:
    """Gradients agree to 1e-3; elements far below the largest one are rounding noise of it."""
    assert ours is not None, f"{name} has no gradient"
    scale = float(golden.abs().max())
    torch.testing.assert_close(ours, golden, rtol=1e-3, atol=1e-4 * scale, msg=lambda text: f"{name}: {text}")


def build_tokenizer(
    params: dict[str, Any], state: Tensors, *, beta_placement: Literal["legacy", "corrected"] = "legacy"
) -> tuple[Tokenizer, Tensors]:
    """Our tokenizer with the golden weights, and the discriminator's state."""
    imported = import_taming_tokenizer(state, config_from_taming(params, beta_placement=beta_placement))
    assert not imported.missing
    assert not imported.left_over
    return imported.tokenizer(), imported.discriminator


class MeanSquares(nn.Module):
    """What the goldens use in place of LPIPS: each image's mean squared difference."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean(dim=(1, 2, 3))


def build_loss(params: dict[str, Any], discriminator: Tensors, *, image_channels: int, stub: bool) -> TokenizerLoss:
    """Our loss from the original's `lossconfig.params`.

    Its `disc_factor` scales the adversarial term of both players. For the autoencoder that is our `weight`; for the
    discriminator we have no such field (Adam does not notice it), so tests scale its loss themselves.
    """
    gan = PatchGanConfig(
        weight=params.get("disc_weight", 1.0) * params.get("disc_factor", 1.0),
        adaptive_delta=1e-4,
        loss=params.get("disc_loss", "hinge"),
        base_channels=params.get("disc_ndf", 64),
        num_layers=params.get("disc_num_layers", 3),
        norm="actnorm" if params.get("use_actnorm") else "batch",
        start_step=params["disc_start"],
    )
    config = TokenizerLossConfig(
        codebook_weight=params.get("codebook_weight", 1.0), perceptual=NoPerceptualConfig(), adversarial=gan
    )
    loss = TokenizerLoss(config, image_channels)
    if stub:
        loss.perceptual = MeanSquares()
        loss.perceptual_weight = params.get("perceptual_weight", 1.0)
    assert loss.discriminator is not None
    loss.discriminator.load_state_dict(discriminator)
    return loss
