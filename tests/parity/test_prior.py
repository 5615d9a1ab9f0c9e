"""Transformers, greedy samples, optimiser groups and key layouts equal the original's.

Every shape, size and length comes from the manifest, the tensors' shapes, or the numbers inside tensor names.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from vqgan_core.config import SamplingConfig, TokenSpec
from vqgan_core.legacy.taming_prior import import_gpt, import_prior, our_name
from vqgan_core.prior import GPT, Reading, decay_groups, sample_tokens
from vqgan_core.prior.sampling import extend

Case = tuple[dict[str, Any], dict[str, Tensor]]
NET2NET = ["f2_net2net_class", "f3_net2net_uncond", "f4_net2net_vqcond"]
FORWARD = {"atol": 2e-5, "rtol": 1e-4}
SCALAR = {"atol": 0.0, "rtol": 1e-4}


def manifest(parity_dir: Path) -> dict[str, Any]:
    return json.loads((parity_dir / "manifest.json").read_text())["cases"]


def load(parity_dir: Path, name: str) -> Case:
    case = manifest(parity_dir)[name]
    return case, load_file(parity_dir / case["file"])


def weights(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def named(tensors: dict[str, Tensor], pattern: str) -> tuple[Tensor, list[int]]:
    """The one tensor whose name matches, and the numbers in its name."""
    matches = [(value, match) for key, value in tensors.items() if (match := re.fullmatch(pattern, key))]
    assert len(matches) == 1, f"{pattern} matches {len(matches)} tensors"
    return matches[0][0], [int(number) for number in matches[0][1].groups()]


def greedy(logits: Tensor, _step: int) -> Tensor:
    return logits.argmax(-1)


@pytest.fixture
def gpt_case(parity_dir: Path) -> Case:
    return load(parity_dir, "f_gpt")


@pytest.fixture
def gpt(gpt_case: Case) -> GPT:
    case, tensors = gpt_case
    imported = import_gpt(weights(tensors, "sd."), case["config"]["n_head"])
    assert imported.report.is_exact
    assert not imported.report.masks
    return imported.gpt


def test_gpt_logits_loss_and_gradients(gpt_case: Case, gpt: GPT) -> None:
    case, tensors = gpt_case
    config = case["config"]
    assert (gpt.vocabulary_size, gpt.max_length, len(gpt.layers), gpt.width) == (
        config["vocab_size"],
        config["block_size"],
        config["n_layer"],
        config["n_embd"],
    )
    logits = gpt(tensors["idx"])
    torch.testing.assert_close(logits, tensors["logits"], **FORWARD)
    loss = cross_entropy(logits.flatten(0, 1), tensors["targets"].flatten())
    torch.testing.assert_close(loss, tensors["loss"], **SCALAR)
    loss.backward()
    ours = dict(gpt.named_parameters())
    gradients = weights(tensors, "grad.")
    assert gradients
    for key, gradient in gradients.items():
        name = our_name(key)
        assert name is not None
        noise = 1e-5 * gradient.abs().max().item()  # elements that cancel to almost nothing carry the others' rounding
        torch.testing.assert_close(ours[name].grad, gradient, rtol=1e-3, atol=noise)


@torch.no_grad()
def test_gpt_prefix_embeddings(gpt_case: Case, gpt: GPT) -> None:
    _, tensors = gpt_case
    expected, prefix = tensors["logits_with_embeddings"], tensors["embeddings"]
    num_tokens = expected.shape[1] - prefix.shape[1]
    torch.testing.assert_close(gpt(tensors["idx"][:, :num_tokens], prefix), expected, **FORWARD)


@torch.no_grad()
def test_gpt_cached_steps(gpt_case: Case, gpt: GPT) -> None:
    _, tensors = gpt_case
    idx, expected = tensors["idx"], tensors["kv_step_logits"]
    num_prefill = idx.shape[1] - expected.shape[1] + 1
    cache = gpt.new_cache(idx.shape[0])
    steps = [gpt(idx[:, :num_prefill], cache=cache)[:, -1]]
    steps += [gpt(idx[:, i : i + 1], cache=cache)[:, -1] for i in range(num_prefill, idx.shape[1])]
    torch.testing.assert_close(torch.stack(steps, dim=1), expected, **FORWARD)


def test_gpt_greedy_sequences(gpt_case: Case, gpt: GPT) -> None:
    _, tensors = gpt_case
    full, (num_new, num_prompt) = named(tensors, r"greedy(\d+)_from_first(\d+)_fullseq")
    new = extend(gpt, num_new, greedy, prompt=tensors["idx"][:, :num_prompt])
    assert torch.equal(torch.cat([tensors["idx"][:, :num_prompt], new], dim=1), full)
    cached, (num_new, num_prompt) = named(tensors, r"greedy(\d+)_from_first(\d+)_kv")
    assert torch.equal(extend(gpt, num_new, greedy, prompt=tensors["idx"][:, :num_prompt]), cached)


@torch.no_grad()
def test_gpt_greedy_with_a_context_that_is_cropped_on_the_left(gpt_case: Case, gpt: GPT) -> None:
    _, tensors = gpt_case
    expected, (num_new, num_prompt) = named(tensors, r"greedy(\d+)_from_first(\d+)_cropped")
    sequence = tensors["idx"][:, :num_prompt]
    for _ in range(num_new):
        following = gpt(sequence[:, -gpt.max_length :])[:, -1].argmax(-1, keepdim=True)
        sequence = torch.cat([sequence, following], dim=1)
    assert torch.equal(sequence, expected)


@torch.no_grad()
def test_gpt_unmasked_prefix(gpt_case: Case) -> None:
    case, tensors = gpt_case
    state = weights(tensors, "sd_unmasked.")
    gpt = import_gpt(state, case["config"]["n_head"]).gpt  # the stored mask buffer says how long the prefix is
    num_unmasked = case["config"]["unmasked"]["n_unmasked"]
    assert gpt.num_unmasked == (num_unmasked if num_unmasked > 1 else 0)  # one position alone always sees itself
    assert len(gpt.layers) == case["config"]["unmasked"]["n_layer"]
    expected, (length,) = named(tensors, r"unmasked_logits_(\d+)")
    tokens = tensors["idx"][:, :length]
    torch.testing.assert_close(gpt(tokens), expected, **FORWARD)
    if length > num_unmasked:
        cache = gpt.new_cache(tokens.shape[0])
        pieces = [gpt(piece, cache=cache) for piece in (tokens[:, :num_unmasked], tokens[:, num_unmasked:])]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected, **FORWARD)


def test_gpt_adamw_groups_and_course(gpt_case: Case, gpt: GPT) -> None:
    case, tensors = gpt_case
    names = {id(parameter): name for name, parameter in gpt.named_parameters()}
    expected = case["adamw"]["groups"]
    decay = max(group["weight_decay"] for group in expected)
    groups = decay_groups(gpt, decay)
    ours = {group["weight_decay"]: sorted(names[id(p)] for p in group["params"]) for group in groups}
    assert ours == {group["weight_decay"]: sorted(map(str, map(our_name, group["params"]))) for group in expected}
    optimizer = torch.optim.AdamW(groups, lr=case["adamw"]["lr"], betas=tuple(case["adamw"]["betas"]))
    losses = []
    for _ in case["adamw"]["loss_before_each_step_on_same_batch"]:
        loss = cross_entropy(gpt(tensors["idx"]).flatten(0, 1), tensors["targets"].flatten())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == pytest.approx(case["adamw"]["loss_before_each_step_on_same_batch"], rel=1e-4)


def net2net(parity_dir: Path, name: str) -> tuple[GPT, dict[str, Tensor]]:
    case, tensors = load(parity_dir, name)
    return import_gpt(weights(tensors, "sd."), case["config"]["transformer"]["n_head"]).gpt, tensors


def image_logits(gpt: GPT, condition: Tensor, tokens: Tensor) -> Tensor:
    """Logits of an image's tokens after condition tokens of the same vocabulary."""
    logits: Tensor = gpt(torch.cat([condition, tokens[:, :-1]], dim=1))
    return logits[:, condition.shape[1] - 1 :]


@torch.no_grad()
@pytest.mark.parametrize("name", NET2NET)
def test_net2net_logits_and_loss(parity_dir: Path, name: str) -> None:
    gpt, tensors = net2net(parity_dir, name)
    logits = image_logits(gpt, tensors["c_indices"], tensors["z_indices"])
    torch.testing.assert_close(logits, tensors["logits"], **FORWARD)
    loss = cross_entropy(logits.flatten(0, 1), tensors["target"].flatten())
    torch.testing.assert_close(loss, tensors["loss"], **SCALAR)


@pytest.mark.parametrize("name", NET2NET)
def test_net2net_greedy_samples(parity_dir: Path, name: str) -> None:
    gpt, tensors = net2net(parity_dir, name)
    condition, image = tensors["c_indices"], tensors["z_indices"]
    for pattern in (r"greedy(\d+)_nopix", r"kv_greedy(\d+)_nopix"):
        expected, (num_new,) = named(tensors, pattern)
        assert torch.equal(extend(gpt, num_new, greedy, prompt=condition), expected)
    expected, (num_new, num_known) = named(tensors, r"greedy(\d+)_after_first(\d+)")
    known = image[:, :num_known]
    new = extend(gpt, num_new, greedy, prompt=torch.cat([condition, known], dim=1))
    assert torch.equal(torch.cat([known, new], dim=1), expected)
    expected, (num_new, num_known) = named(tensors, r"kv_greedy(\d+)_after_first(\d+)")
    prompt = torch.cat([condition, image[:, :num_known]], dim=1)
    assert torch.equal(extend(gpt, num_new, greedy, prompt=prompt), expected)


@torch.no_grad()
def test_net2net_loss_of_corrupted_input(parity_dir: Path) -> None:
    gpt, tensors = net2net(parity_dir, "f2_net2net_class")
    keep, _ = named(tensors, r"pkeep[\d.]+_mask")
    noise, _ = named(tensors, r"pkeep[\d.]+_random")
    fed, _ = named(tensors, r"pkeep[\d.]+_input")
    expected, _ = named(tensors, r"pkeep[\d.]+_loss")
    corrupted = torch.where(keep == 1, tensors["z_indices"], noise)
    assert torch.equal(torch.cat([tensors["c_indices"], corrupted[:, :-1]], dim=1), fed)
    logits = image_logits(gpt, tensors["c_indices"], corrupted)
    loss = cross_entropy(logits.flatten(0, 1), tensors["target"].flatten())
    torch.testing.assert_close(loss, expected, **SCALAR)
    case, _ = load(parity_dir, "f2_net2net_class")
    labels, num_heads = tensors["c_indices"][:, 0], case["config"]["transformer"]["n_head"]
    size = {"height": 1, "width": keep.shape[1], "num_classes": int(labels.max()) + 1}
    spec = TokenSpec(codebook_size=case["config"]["transformer"]["vocab_size"], **size)
    prior = import_prior(weights(tensors, "sd."), spec, num_heads)
    nll = prior.nll(tensors["z_indices"], labels, reading=Reading(inputs=corrupted))
    torch.testing.assert_close(nll.mean(), expected, **SCALAR)


@pytest.mark.parametrize("name", NET2NET[:2])
def test_imported_prior_equals_the_original(parity_dir: Path, name: str) -> None:
    case, tensors = load(parity_dir, name)
    config, tokens, given = case["config"], tensors["z_indices"], tensors["c_indices"][:, 0]
    sos_token = config.get("sos_token")
    spec = TokenSpec(
        codebook_size=config["transformer"]["vocab_size"],
        height=1,
        width=tokens.shape[1],
        num_classes=0 if sos_token is not None else int(given.max()) + 1,
    )
    prior = import_prior(weights(tensors, "sd."), spec, config["transformer"]["n_head"], sos_token=sos_token)
    labels = None if sos_token is not None else given
    with torch.no_grad():
        torch.testing.assert_close(prior(tokens, labels), tensors["logits"], **FORWARD)
        torch.testing.assert_close(prior.nll(tokens, labels).mean(), tensors["loss"], **SCALAR)
    expected, (num_new,) = named(tensors, r"greedy(\d+)_nopix")
    sampled = sample_tokens(prior, labels, range(len(tokens)), SamplingConfig(temperature=0))
    assert torch.equal(sampled[:, :num_new], expected)


def test_an_imported_prior_that_is_told_other_tokens_equals_the_original(parity_dir: Path) -> None:
    case, tensors = load(parity_dir, "f4_net2net_vqcond")
    tokens, told = tensors["z_indices"], tensors["c_indices"]
    codes = case["config"]["transformer"]["vocab_size"]
    column = {"name": "map", "codebook_size": case["config"]["cond_stage"]["n_embed"], "height": 1}
    spec = TokenSpec.model_validate(
        {
            "codebook_size": codes,
            "height": 1,
            "width": tokens.shape[1],
            "columns": [{**column, "width": told.shape[1]}],
        }
    )
    prior = import_prior(weights(tensors, "sd."), spec, case["config"]["transformer"]["n_head"])
    with torch.no_grad():
        torch.testing.assert_close(prior(tokens, columns={"map": told}), tensors["logits"], **FORWARD)
        torch.testing.assert_close(prior.nll(tokens, columns={"map": told}).mean(), tensors["loss"], **SCALAR)
    for pattern in (r"greedy(\d+)_nopix", r"kv_greedy(\d+)_nopix"):
        expected, (num_new,) = named(tensors, pattern)
        sampled = sample_tokens(prior, None, range(len(tokens)), SamplingConfig(temperature=0), columns={"map": told})
        assert torch.equal(sampled[:, :num_new], expected)


def test_every_key_layout_is_mapped_exactly(parity_dir: Path) -> None:
    layouts = json.loads((parity_dir / manifest(parity_dir)["f_net2net_key_layouts"]["file"]).read_text())
    assert layouts
    for name, layout in layouts.items():
        state = {key: torch.empty(shape, device="meta") for key, shape in layout.items()}
        check_account(name, state)


def test_full_size_keys_are_mapped_exactly(parity_dir: Path) -> None:
    case = manifest(parity_dir)["i_full_size_keys"]
    models = json.loads((parity_dir / case["file"]).read_text())
    transformers = {name: keys for name, keys in models.items() if {"pos_emb", "transformer.pos_emb"} & set(keys)}
    assert transformers
    for name, keys in transformers.items():
        state = {key: torch.empty(shape, device="meta") for key, (shape, _) in keys.items()}
        check_account(name, state)
        if "pos_emb" in keys:
            gpt = import_gpt(state, num_heads=1).gpt
            assert sum(parameter.numel() for parameter in gpt.parameters()) == case["n_parameters"][name]


def check_account(name: str, state: dict[str, Tensor]) -> None:
    """Every key is accounted for once, and every transformer key has a place of its own shape."""
    imported = import_gpt(state, num_heads=1)
    report, ours = imported.report, dict(imported.gpt.named_parameters())
    assert report.is_exact, name
    accounted = report.used + report.masks + report.permuter + report.other_stages
    assert sorted(accounted) == sorted(state), name
    assert len(report.used) == len(ours), name
    assert len(report.masks) == len(imported.gpt.layers), name
    assert (imported.order is not None) == any("permuter" in key for key in state), name
    for key in report.used:
        assert ours[str(our_name(key.removeprefix("transformer.")))].shape == state[key].shape, key
