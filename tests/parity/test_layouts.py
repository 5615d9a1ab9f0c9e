"""What is exported to the original's layout has the keys and shapes of its published checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.parity.tokenizer_cases import build_tokenizer, read_case, read_tensors, with_prefix
from vqgan_core.legacy.layouts import TAMING, export_state, import_state
from vqgan_core.legacy.taming_tokenizer import config_from_taming, ddconfig_of
from vqgan_core.legacy.tokenizer_import import config_of, import_tokenizer
from vqgan_core.tokenizer import Tokenizer


def test_an_export_of_the_golden_model_is_the_golden_state(parity_dir: Path) -> None:
    case = read_case(parity_dir, "a_vqmodel")
    golden = with_prefix(read_tensors(parity_dir, case), "sd.")
    tokenizer, _ = build_tokenizer(case["config"], golden)
    exported = export_state(tokenizer, TAMING)
    theirs = {key: value for key, value in golden.items() if not key.startswith("loss.")}
    assert exported.keys() == theirs.keys()
    assert all(torch.equal(exported[key], value) for key, value in theirs.items())


def test_full_size_keys_and_shapes(parity_dir: Path) -> None:
    listing = json.loads((parity_dir / read_case(parity_dir, "i_full_size_keys")["file"]).read_text())
    checked = 0
    for model, keys in listing.items():
        if "quant_conv.weight" not in keys:
            continue
        state = {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}
        kind = "GumbelVQ" if "quantize.embed.weight" in keys else "VQModel"
        config = config_from_taming(ddconfig_of(state), model=kind)
        with torch.device("meta"):
            exported = export_state(Tokenizer(config), TAMING)
        networks = {key: value for key, value in state.items() if not key.startswith("loss.") and key != "colorize"}
        assert {key: value.shape for key, value in exported.items()} == {k: v.shape for k, v in networks.items()}, model
        report = import_state(state, config, TAMING)
        assert report.missing == ()
        assert set(report.left_over) == set(state) - set(networks)
        checked += 1
    assert checked


def test_every_key_of_the_published_models_is_accounted_for(parity_dir: Path) -> None:
    """What `tessera import taming` reports of them: nothing missing, nothing left over, with and without losses."""
    listing = json.loads((parity_dir / read_case(parity_dir, "i_full_size_keys")["file"]).read_text())
    accounted = 0
    for model, keys in listing.items():
        state = {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}
        for part in ("", "first_stage_model."):
            own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
            if "quant_conv.weight" not in own:
                continue
            imported = import_tokenizer("taming", own, config_of("taming", own, None, resolution_px=256))
            assert imported.report.missing == imported.report.left_over == (), model
            assert {*imported.report.used, *imported.report.ignored} == set(own)
            assert bool(imported.discriminator) == any(key.startswith("loss.discriminator.") for key in own)
            accounted += 1
    assert accounted
