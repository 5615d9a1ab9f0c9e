"""The tokenizer of label maps computes what the original's `VQSegmentationModel` computes."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.parity.tokenizer_cases import FORWARD, SCALAR, read_case, read_tensors, with_prefix
from vqgan_core.config import TokenizerLossConfig
from vqgan_core.legacy.taming_tokenizer import config_from_taming, import_taming_tokenizer
from vqgan_core.losses import TokenizerLoss
from vqgan_core.tokenizer import one_hot


def test_label_maps_to_logits_and_losses(parity_dir: Path) -> None:
    case = read_case(parity_dir, "c_vqseg")
    params, golden = case["config"], read_tensors(parity_dir, case)
    config = config_from_taming(params, model="VQSegmentationModel")
    imported = import_taming_tokenizer(with_prefix(golden, "sd."), config)
    assert imported.missing == ()
    assert set(imported.left_over) <= {"colorize"}
    tokenizer = imported.tokenizer().requires_grad_(requires_grad=False)
    images = one_hot(golden["labels"].to(torch.int16), params["n_labels"])
    assert torch.equal(images, golden["x"])
    output = tokenizer(images)
    torch.testing.assert_close(output.latents, golden["prequant"], **FORWARD)
    assert torch.equal(output.indices.flatten(), golden["indices"].flatten())
    torch.testing.assert_close(output.reconstruction, golden["recon_logits"], **FORWARD)
    loss = TokenizerLoss(
        TokenizerLossConfig(
            pixel="bce", codebook_weight=params["codebook_weight"], perceptual="none", adversarial="none"
        ),
        params["n_labels"],
    )
    total, logs = loss.autoencoder_loss(images, output, tokenizer.last_layer, 0)
    torch.testing.assert_close(logs["pixel"], golden["bce_loss"], **SCALAR)
    torch.testing.assert_close(logs["quantizer"], golden["quant_loss"], **SCALAR)
    torch.testing.assert_close(total, golden["total_loss"], **SCALAR)
