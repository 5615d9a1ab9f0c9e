"""The tokenizer computes what the original's `VQModel` computes: forward, losses, gradients, keys."""

from __future__ import annotations

import json
from pathlib import Path

import lpips
import pytest
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from tests.parity.tokenizer_cases import (
    FORWARD,
    SCALAR,
    Tensors,
    assert_gradient,
    build_tokenizer,
    read_case,
    read_tensors,
    with_prefix,
)
from vqgan_core.config import PatchGanConfig
from vqgan_core.legacy.taming_tokenizer import config_from_taming, ddconfig_of, import_taming_tokenizer, our_key
from vqgan_core.losses import PatchDiscriminator
from vqgan_core.tokenizer import Tokenizer


@pytest.fixture
def case(parity_dir: Path) -> tuple[Tokenizer, Tensors]:
    case = read_case(parity_dir, "a_vqmodel")
    tensors = read_tensors(parity_dir, case)
    return build_tokenizer(case["config"], with_prefix(tensors, "sd."))[0], tensors


def test_forward(case: tuple[Tokenizer, Tensors]) -> None:
    tokenizer, golden = case
    with torch.no_grad():
        torch.testing.assert_close(tokenizer.encoder(golden["x"]), golden["encoder_out"], **FORWARD)
        output = tokenizer(golden["x"])
    torch.testing.assert_close(output.latents, golden["prequant"], **FORWARD)
    torch.testing.assert_close(output.quantized, golden["quant"], **FORWARD)
    torch.testing.assert_close(output.reconstruction, golden["recon"], **FORWARD)
    assert torch.equal(output.indices.flatten(), golden["indices"])
    assert torch.equal(tokenizer.encode(golden["x"]), output.indices)
    torch.testing.assert_close(output.loss, golden["loss_legacy"], **SCALAR)
    torch.testing.assert_close(tokenizer.post_quant_conv(output.quantized).detach(), golden["post_quant"], **FORWARD)


def test_decode_from_indices(case: tuple[Tokenizer, Tensors]) -> None:
    tokenizer, golden = case
    batch, _, height, width = golden["quant_from_indices"].shape
    indices = golden["indices"].view(batch, height, width)
    with torch.no_grad():
        torch.testing.assert_close(tokenizer.quantizer.decode(indices), golden["quant_from_indices"], **FORWARD)
        torch.testing.assert_close(tokenizer.decode(indices), golden["recon_from_indices"], **FORWARD)


def test_another_aspect_ratio(case: tuple[Tokenizer, Tensors]) -> None:
    tokenizer, golden = case
    with torch.no_grad():
        output = tokenizer(golden["x_rect"])
    assert torch.equal(output.indices.flatten(), golden["indices_rect"])
    torch.testing.assert_close(output.reconstruction, golden["recon_rect"], **FORWARD)
    torch.testing.assert_close(output.loss, golden["loss_rect_legacy"], **SCALAR)


@pytest.mark.parametrize(("placement", "name"), [("legacy", "legacy"), ("corrected", "fixed")])
def test_quantizer_loss_and_its_gradients(parity_dir: Path, placement: str, name: str) -> None:
    case = read_case(parity_dir, "a_vqmodel")
    golden = read_tensors(parity_dir, case)
    tokenizer, _ = build_tokenizer(case["config"], with_prefix(golden, "sd."), beta_placement=placement)
    latents = golden["prequant"].clone().requires_grad_()
    result = tokenizer.quantizer(latents)
    result.loss.backward()
    torch.testing.assert_close(result.loss.detach(), golden[f"loss_{name}"], **SCALAR)
    assert_gradient(latents.grad, golden[f"quantloss_{name}.grad_prequant"], "latents")
    assert_gradient(tokenizer.quantizer.codebook.grad, golden[f"quantloss_{name}.grad_codebook"], "codebook")


def test_gradients_of_a_whole_training_loss(case: tuple[Tokenizer, Tensors]) -> None:
    tokenizer, golden = case
    output = tokenizer.train()(golden["x"])
    loss = l1_loss(output.reconstruction, golden["x"]) + output.loss
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden["train_loss"], **SCALAR)
    parameters = dict(tokenizer.named_parameters())
    gradients = with_prefix(golden, "grad.")
    assert gradients
    for key, gradient in gradients.items():
        assert_gradient(parameters[our_key(key) or ""].grad, gradient, key)


def _meta_states(parity_dir: Path) -> dict[str, Tensors]:
    """The published configurations that are a `VQModel`, on the meta device."""
    listing = json.loads((parity_dir / read_case(parity_dir, "i_full_size_keys")["file"]).read_text())
    dtypes = {"float32": torch.float32, "int64": torch.int64, "uint8": torch.uint8, "bool": torch.bool}
    return {
        model: {key: torch.empty(shape, dtype=dtypes[dtype], device="meta") for key, (shape, dtype) in keys.items()}
        for model, keys in listing.items()
        if "quantize.embedding.weight" in keys
    }


def test_full_size_keys_are_all_mapped(parity_dir: Path) -> None:
    """Each key and shape of a published `VQModel` has one place here, and each of ours gets a value.

    `loss.discriminator.main.N.…` are PatchDiscriminator's `layers.N.…`; `loss.perceptual_loss.…` is a whole LPIPS
    state dict with net vgg. Named and not used: the segmentation model's `colorize`, a random palette for pictures, and
    `quantize.used`, the list of a remapped model.
    """
    num_parameters = read_case(parity_dir, "i_full_size_keys")["n_parameters"]
    states = _meta_states(parity_dir)
    assert states
    for model, state in states.items():
        imported = import_taming_tokenizer(state, config_from_taming(ddconfig_of(state)))
        assert imported.missing == (), model
        assert set(imported.left_over) <= {"colorize", "quantize.used"}, model
        assert sorted(imported.used + imported.left_over) == sorted(state), model
        total = sum(parameter.numel() for parameter in imported.tokenizer().parameters())
        total += _check_discriminator(imported.discriminator, imported.config.autoencoder.image_channels)
        total += _check_perceptual(imported.perceptual)
        assert total == num_parameters[model], model


def _check_discriminator(state: Tensors, image_channels: int) -> int:
    if not state:
        return 0
    convolutions = [tensor for name, tensor in state.items() if name.endswith("weight") and tensor.ndim == 4]
    norm = "actnorm" if any(name.endswith("loc") for name in state) else "batch"
    config = PatchGanConfig(base_channels=convolutions[0].shape[0], num_layers=len(convolutions) - 2, norm=norm)
    with torch.device("meta"):
        discriminator = PatchDiscriminator(config, image_channels)
    discriminator.load_state_dict(state, assign=True)
    return sum(parameter.numel() for parameter in discriminator.parameters())


def _check_perceptual(state: Tensors) -> int:
    if not state:
        return 0
    with torch.device("meta"), pytest.warns(UserWarning, match="deprecated"):
        network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    expected = {name: t.shape for name, t in network.state_dict().items() if not name.startswith("lins.")}
    assert {name: tensor.shape for name, tensor in state.items()} == expected
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_damaged_checkpoint_is_reported(case: tuple[Tokenizer, Tensors]) -> None:
    tokenizer, golden = case
    state: dict[str, Tensor] = with_prefix(golden, "sd.") | {"quantize.used": torch.zeros(3)}
    del state["quant_conv.bias"]
    state["decoder.conv_out.bias"] = torch.zeros(17)
    imported = import_taming_tokenizer(state, tokenizer.config)
    assert imported.missing == ("quant_conv.bias", "decoder.conv_out.bias")
    assert set(imported.left_over) == {"quantize.used", "decoder.conv_out.bias"}
    with pytest.raises(ValueError, match="lacks 2"):
        imported.tokenizer()
