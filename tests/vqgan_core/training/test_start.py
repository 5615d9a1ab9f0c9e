"""Training that begins with the weights of another model: what is taken over, what is frozen, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vqgan_core.training.quantizer_kinds import KINDS
from tests.vqgan_core.training.steps import SPEC, images_of, prior_config, tokenizer_config, tokens_of
from vqgan_core.config import ConfigError, TokenizerConfig
from vqgan_core.prior import Prior
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.training.prior_step import PriorStep
from vqgan_core.training.start import TokenizerStart, require_same_prior, require_same_tokenizer
from vqgan_core.training.tokenizer_step import TokenizerStep

FROM = {"init_from": "0123abcd"}
WITH_CODEBOOK = {name: kind for name, kind in KINDS.items() if "restart" not in name and name not in {"fsq", "lfq"}}


def trained(**overrides: Any) -> TokenizerStep:
    """A tokenizer and its discriminator after a few steps, with another seed."""
    step = TokenizerStep(tokenizer_config(training__seed=8, **overrides))
    for number in range(4):
        step.train_step(images_of(number), number)
    return step


def start_of(step: TokenizerStep) -> TokenizerStart:
    assert step.loss.discriminator is not None
    tokenizer = Tokenizer.from_files(step.tokenizer.to_files())
    return TokenizerStart(tokenizer, {name: t.clone() for name, t in step.loss.discriminator.state_dict().items()})


def test_a_tokenizer_and_its_discriminator_are_taken_over() -> None:
    start = start_of(trained())
    step = TokenizerStep(tokenizer_config(training__ema_decay=0.9, **FROM), start=start)
    for name, tensor in start.tokenizer.state_dict().items():
        assert torch.equal(step.tokenizer.state_dict()[name], tensor), name
    assert step.loss.discriminator is not None
    assert start.fits(step.loss.discriminator)
    for name, tensor in start.discriminator.items():
        assert torch.equal(step.loss.discriminator.state_dict()[name], tensor), name
    published = Tokenizer.from_files(step.result_files())  # the average begins there, too
    assert torch.equal(published.quantizer.codebook, start.tokenizer.quantizer.codebook)


def test_a_discriminator_with_other_layers_begins_anew() -> None:
    start = start_of(trained())
    wider = {"loss__adversarial__base_channels": 4}
    fresh, step = (TokenizerStep(tokenizer_config(**wider, **FROM), start=given) for given in (None, start))
    assert step.loss.discriminator is not None
    assert fresh.loss.discriminator is not None
    assert not start.fits(step.loss.discriminator)
    for ours, new in zip(step.loss.discriminator.parameters(), fresh.loss.discriminator.parameters(), strict=True):
        assert torch.equal(ours, new)


@pytest.mark.parametrize("kind", WITH_CODEBOOK)
def test_a_frozen_codebook_stays_and_the_rest_moves(kind: str) -> None:
    start = start_of(trained(**KINDS[kind]))
    entries = start.tokenizer.quantizer.decode(torch.arange(16).view(1, 4, 4) % 16)
    step = TokenizerStep(
        tokenizer_config(freeze_codebook=True, training__weight_decay=0.1, **FROM, **KINDS[kind]), start=start
    )
    for number in range(3):
        step.train_step(images_of(number), number)
    assert torch.equal(step.tokenizer.quantizer.decode(torch.arange(16).view(1, 4, 4) % 16), entries)
    before = start.tokenizer.state_dict()
    moved = {name for name, tensor in step.tokenizer.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"encoder.conv_in.weight", "quant_conv.weight", "decoder.conv_out.weight"} <= moved
    unfrozen = TokenizerStep(tokenizer_config(**FROM, **KINDS[kind]), start=start)
    for number in range(3):
        unfrozen.train_step(images_of(number), number)
    assert not torch.equal(unfrozen.tokenizer.quantizer.decode(torch.arange(16).view(1, 4, 4) % 16), entries)


def test_both_codebooks_of_two_levels_are_frozen() -> None:
    two = {"quantizer__kind": "ema", "top__codebook_size": 8, "top__codebook_dim": 3}
    start = start_of(trained(**two))
    step = TokenizerStep(tokenizer_config(freeze_codebook=True, **FROM, **two), start=start)
    for number in range(2):
        step.train_step(images_of(number), number)
    for name in ("quantizer.codebook", "quantizer.sum_chosen", "top.quantizer.codebook", "top.quantizer.num_chosen"):
        assert torch.equal(step.tokenizer.state_dict()[name], start.tokenizer.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"top there, not none"):
        require_same_tokenizer(start.tokenizer.config, tokenizer_config(quantizer__kind="ema").model())
    with pytest.raises(ValueError, match=r"top\.codebook_size 8, not 4"):
        require_same_tokenizer(start.tokenizer.config, tokenizer_config(**two | {"top__codebook_size": 4}).model())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"codebook_size": 32}, r"codebook_size 16, not 32: set its values here"),
        ({"codebook_dim": 2}, "codebook_dim 4, not 2"),
        ({"autoencoder__base_channels": 16}, r"autoencoder\.base_channels 8, not 16"),
        ({"autoencoder__channel_multipliers": [1, 1, 2]}, r"channel_multipliers \(1, 2\), not \(1, 1, 2\)"),
        ({"autoencoder__attention_resolutions": [8]}, r"attention at levels \[\], not \[1\]"),
        ({"quantizer__kind": "ema"}, r"quantizer\.kind vector, not ema"),
        ({"quantizer__l2_normalize": True}, r"quantizer\.l2_normalize False, not True"),
        ({"quantizer__kind": "residual", "quantizer__depth": 2}, r"quantizer\.kind vector, not residual"),
    ],
)
def test_another_architecture_is_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        require_same_tokenizer(tokenizer_config().model(), tokenizer_config(**overrides).model())
    assert "\n" not in str(refused.value)


def test_what_concerns_training_is_free() -> None:
    wanted = tokenizer_config(
        quantizer__commitment_weight=1.0, quantizer__beta_placement="legacy", autoencoder__dropout=0.1,
        autoencoder__resolution_px=32, quantizer__restart_dead_codes_after_steps=5,
    )  # fmt: skip
    require_same_tokenizer(tokenizer_config().model(), wanted)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"freeze_codebook": True}, "freeze_codebook without init_from"),
        ({"freeze_codebook": True, **FROM, **KINDS["fsq"]}, "quantizer fsq, which has no codebook"),
        ({"freeze_codebook": True, **FROM, **KINDS["ema with restart"]}, "restart_dead_codes_after_steps"),
        ({"init_from": ""}, "init_from: string should have at least 4"),
    ],
)
def test_settings_that_contradict_each_other(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tokenizer_config(**overrides)


def test_old_fingerprints_stay_and_names_of_artifacts_are_no_recipe() -> None:
    assert tokenizer_config(**FROM).recipe() == tokenizer_config().recipe()
    assert not {"init_from", "freeze_codebook"} & tokenizer_config().recipe().keys()
    assert tokenizer_config(freeze_codebook=True, **FROM).recipe()["freeze_codebook"] is True
    assert "init_from" not in prior_config(init_from="0123").recipe()
    assert not {"init_from", "freeze_codebook"} & TokenizerConfig.model_fields.keys()


def test_a_prior_is_taken_over() -> None:
    config = prior_config(**FROM)
    start = PriorStep(prior_config(training__seed=8), SPEC)
    for number in range(3):
        start.train_step(tokens_of(number), number)
    step = PriorStep(config, SPEC, start=Prior.from_files(start.prior.to_files()))
    for name, tensor in start.prior.state_dict().items():
        assert torch.equal(step.prior.state_dict()[name], tensor), name
    step.train_step(tokens_of(0), 0)
    assert not torch.equal(step.prior.state_dict()["transformer.head.weight"], start.prior.transformer.head.weight)


@pytest.mark.parametrize(
    ("overrides", "spec", "message"),
    [
        ({"width": 32}, {}, "width 16, not 32"),
        ({"num_layers": 3}, {}, "num_layers 2, not 3"),
        ({"architecture": "modern"}, {}, "architecture gpt, not modern"),
        ({"order": "column"}, {}, "order row, not column"),
        ({}, {"codebook_size": 12}, r"tokens\.codebook_size 11, not 12"),
        ({}, {"height": 4}, r"tokens\.height 3, not 4"),
        ({}, {"num_classes": 4}, r"tokens\.num_classes 3, not 4"),
        ({}, {"tokenizer": "b" * 64}, r"tokens\.tokenizer , not bbb"),
    ],
)
def test_another_prior_is_one_line(overrides: dict[str, Any], spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_same_prior(prior_config().model(), SPEC, prior_config(**overrides), SPEC.model_copy(update=spec))


def test_names_of_classes_and_dropout_are_free() -> None:
    named = SPEC.model_copy(update={"class_names": ("a", "b", "c")})
    require_same_prior(prior_config().model(), SPEC, prior_config(dropout=0.0), named)
    untold = prior_config(condition="none")
    require_same_prior(untold.model(), SPEC.model_copy(update={"num_classes": 0}), untold, named)
