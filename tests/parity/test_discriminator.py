"""The patch discriminator and its losses compute what the original's compute, ActNorm's first batch included."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.parity.tokenizer_cases import FORWARD, SCALAR, read_case, read_tensors, with_prefix
from vqgan_core.config import PatchGanConfig
from vqgan_core.losses import PatchDiscriminator, discriminator_loss, generator_loss


def test_logits_losses_and_buffers(parity_dir: Path) -> None:
    case = read_case(parity_dir, "d_disc")
    tensors = read_tensors(parity_dir, case)
    assert case["config"]
    for tag, params in case["config"].items():
        golden = with_prefix(tensors, f"{tag}.")
        norm = "actnorm" if params.get("use_actnorm") else "batch"
        config = PatchGanConfig(base_channels=params["ndf"], num_layers=params["n_layers"], norm=norm)
        discriminator = PatchDiscriminator(config, params["input_nc"])
        state = {_ours(name): value for name, value in with_prefix(tensors, f"sd.{tag}.").items()}
        discriminator.load_state_dict(state)
        for mode in ("eval", "train"):
            discriminator.train(mode == "train")
            with torch.no_grad():
                real = discriminator(golden["x_real"])
                fake = discriminator(golden["x_fake"])
            torch.testing.assert_close(real, golden[f"{mode}_real"], **FORWARD)
            torch.testing.assert_close(fake, golden[f"{mode}_fake"], **FORWARD)
            for kind in ("hinge", "vanilla"):
                torch.testing.assert_close(discriminator_loss(kind, real, fake), golden[f"{kind}_{mode}"], **SCALAR)
            if mode == "eval":
                torch.testing.assert_close(generator_loss(fake), golden["g_loss_eval"], **SCALAR)
        after = discriminator.state_dict()
        expected = with_prefix(golden, "after.")
        assert expected
        for name, tensor in expected.items():
            torch.testing.assert_close(after[_ours(name)], tensor, **FORWARD)


def _ours(name: str) -> str:
    return name.replace("main.", "layers.", 1)
