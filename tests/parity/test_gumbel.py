"""The Gumbel tokenizer computes what the original's `GumbelVQ` computes, with its noise handed in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.tokenizer_cases import FORWARD, SCALAR, Tensors, read_case, read_tensors, with_prefix
from vqgan_core.config import GumbelQuantizerConfig
from vqgan_core.legacy.taming_tokenizer import config_from_taming, ddconfig_of, import_taming_tokenizer
from vqgan_core.quantizers import GumbelQuantizer
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training import gumbel_temperature


def build(params: dict[str, Any], golden: Tensors) -> tuple[Tokenizer, GumbelQuantizer]:
    imported = import_taming_tokenizer(with_prefix(golden, "sd."), config_from_taming(params, model="GumbelVQ"))
    assert not imported.missing
    assert not imported.left_over
    tokenizer = imported.tokenizer().requires_grad_(requires_grad=False)
    assert isinstance(tokenizer.quantizer, GumbelQuantizer)
    return tokenizer, tokenizer.quantizer


@pytest.fixture
def case(parity_dir: Path) -> tuple[dict[str, Any], Tensors]:
    case = read_case(parity_dir, "b_gumbelvq")
    return case, read_tensors(parity_dir, case)


def test_the_mode(case: tuple[dict[str, Any], Tensors]) -> None:
    tokenizer, quantizer = build(case[0]["config"], case[1])
    golden = case[1]
    output = tokenizer(golden["x"])
    torch.testing.assert_close(output.latents, golden["prequant"], **FORWARD)
    torch.testing.assert_close(quantizer.logits(output.latents), golden["proj_logits"], **FORWARD)
    assert torch.equal(tokenizer.encode(golden["x"]), golden["indices_mode"])
    assert torch.equal(output.indices, golden["indices_mode"])
    torch.testing.assert_close(output.quantized, golden["quant_mode"], **FORWARD)
    torch.testing.assert_close(output.reconstruction, golden["recon_mode"], **FORWARD)
    torch.testing.assert_close(tokenizer.decode(golden["indices_mode"]), golden["recon_mode"], **FORWARD)
    torch.testing.assert_close(output.loss, golden["kl_diff"], **SCALAR)


def test_a_draw_with_their_noise(case: tuple[dict[str, Any], Tensors]) -> None:
    params, golden = case[0]["config"], case[1]
    tokenizer, quantizer = build(params, golden)
    quantizer.temperature = params["temp_init"]
    quantized, indices = quantizer.draw(golden["proj_logits"], golden["gumbel_noise"])
    assert torch.equal(indices, golden["indices_sampled"])
    torch.testing.assert_close(quantized, golden["quant_sampled"], **FORWARD)
    torch.testing.assert_close(tokenizer.decode(indices), golden["recon_sampled"], **FORWARD)


def test_draws_in_training(case: tuple[dict[str, Any], Tensors]) -> None:
    params, golden = case[0]["config"], case[1]
    temperatures = [match[1] for name in golden if (match := re.fullmatch(r"train_t([\d.]+)_noise", name))]
    assert temperatures
    for temperature in temperatures:
        for straight_through, name in ((True, "hard"), (False, "soft")):
            _, quantizer = build({**params, "straight_through": straight_through}, golden)
            quantizer.temperature = float(temperature)
            tag = f"train_t{temperature}"
            quantized, indices = quantizer.draw(golden["proj_logits"], golden[f"{tag}_noise"])
            torch.testing.assert_close(quantized, golden[f"{tag}_quant_{name}"], **FORWARD)
            assert torch.equal(indices, golden[f"{tag}_indices"])


def test_temperatures(case: tuple[dict[str, Any], Tensors]) -> None:
    tables = [case[0][name] for name in ("temperature_schedule", "warmup_cosine") if name in case[0]]
    assert tables
    for table in tables:
        params = {**case[0]["config"], "temperature_scheduler_config": {"params": table["params"]}}
        config = config_from_taming(params, model="GumbelVQ").quantizer
        assert isinstance(config, GumbelQuantizerConfig)
        for step, expected in table["values"].items():
            assert gumbel_temperature(config, int(step)) == pytest.approx(expected, rel=1e-9, abs=1e-15), step


def test_full_size_keys_are_all_mapped(parity_dir: Path) -> None:
    case = read_case(parity_dir, "i_full_size_keys")
    listing = json.loads((parity_dir / case["file"]).read_text())
    models = {name: keys for name, keys in listing.items() if "quantize.embed.weight" in keys}
    assert models
    for name, keys in models.items():
        state = {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}
        imported = import_taming_tokenizer(state, config_from_taming(ddconfig_of(state), model="GumbelVQ"))
        assert (imported.missing, imported.left_over) == ((), ()), name
        total = sum(parameter.numel() for parameter in imported.tokenizer().parameters())
        assert total == case["n_parameters"][name]


def test_a_gumbel_state_is_no_vq_model(case: tuple[dict[str, Any], Tensors]) -> None:
    imported = import_taming_tokenizer(with_prefix(case[1], "sd."), config_from_taming(case[0]["config"]))
    assert imported.missing == ("quantizer.codebook",)
    assert set(imported.left_over) == {"quantize.embed.weight", "quantize.proj.weight", "quantize.proj.bias"}
