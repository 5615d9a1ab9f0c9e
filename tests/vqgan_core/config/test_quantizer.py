"""The union of quantizers: what a config without a kind means, what is refused, and that old fingerprints stay."""

from __future__ import annotations

from typing import Any

import pytest

from vqgan_core.config import (
    Config,
    ConfigError,
    TokenizerConfig,
    TokenizerLossConfig,
    TrainTokenizerConfig,
    VectorQuantizerConfig,
    sha256_json,
)


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (TokenizerConfig(), "8385bc4be24a04d9d3e715aa59f9b963162f86fd7510b18e70260dd35b12a6e0"),
        (
            TokenizerConfig(quantizer={"restart_dead_codes_after_steps": 5}),
            "4761a73619212261d81f4b44df864537ea3e5b72de6b56abe9d7460f22ffa2ed",
        ),
        (TokenizerLossConfig(), "9fa92d7f4b9c73655ee23e5be13499df62999bfb7b240906f46c2a7f12f40199"),
    ],
)
def test_recipes_from_before_the_union_are_the_same(config: Config, digest: str) -> None:
    """A changed digest here gives every tokenizer that was ever trained another fingerprint."""
    assert sha256_json(config.recipe()) == digest
    assert "perturbation" not in TrainTokenizerConfig().recipe()


def test_a_later_field_enters_the_recipe_where_it_departs_from_its_default() -> None:
    assert "gradient" not in VectorQuantizerConfig().recipe()
    recipe = TokenizerConfig(quantizer={"gradient": "rotation"}).recipe()
    assert recipe["quantizer"]["gradient"] == "rotation"
    assert TokenizerConfig.model_validate(recipe).recipe() == recipe


def test_without_a_kind_it_is_a_vector_quantizer() -> None:
    config = TokenizerConfig.load(overrides={"quantizer": {"restart_dead_codes_after_steps": 5}})
    assert config.quantizer == VectorQuantizerConfig(restart_dead_codes_after_steps=5)
    assert TokenizerConfig.load(overrides=["quantizer.l2_normalize=true"]).quantizer.kind == "vector"


def test_another_kind_brings_its_own_fields() -> None:
    config = TokenizerConfig.load(overrides=["quantizer.l2_normalize=true", "quantizer.kind=ema", "quantizer.decay=.9"])
    assert config.quantizer.recipe() == {
        "kind": "ema",
        "commitment_weight": 0.25,
        "decay": 0.9,
        "smoothing": 1e-5,
        "restart_dead_codes_after_steps": None,
        "gradient": "straight_through",
    }


FITTING = {
    "fsq": {"codebook_size": 60, "codebook_dim": 3, "quantizer": {"kind": "fsq", "levels": [3, 4, 5]}},
    "lfq": {"codebook_size": 1024, "codebook_dim": 10, "quantizer": {"kind": "lfq"}},
}


@pytest.mark.parametrize("kind", FITTING)
def test_a_codebook_that_fits(kind: str) -> None:
    assert TokenizerConfig.model_validate(FITTING[kind]).quantizer.kind == kind


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (FITTING["fsq"] | {"codebook_size": 64}, "codebook_size 60 and codebook_dim 3, got 64 and 3"),
        (FITTING["fsq"] | {"codebook_dim": 4}, "codebook_size 60 and codebook_dim 3, got 60 and 4"),
        (FITTING["lfq"] | {"codebook_size": 1000}, "2.codebook_dim, got codebook_size 1000 and codebook_dim 10"),
        ({"codebook_dim": 25, "quantizer": {"kind": "lfq"}}, "for example 1024 and 10"),
        ({"quantizer": {"kind": "fsq", "levels": [2, 8]}}, "greater than or equal to 3"),
        ({"quantizer": {"kind": "simvq", "l2_normalize": True}}, "l2_normalize: there is no such field"),
        (
            {"quantizer": {"kind": "gumbel", "temperature_warmup_steps": 50, "temperature_decay_steps": 10}},
            "temperature_decay_steps 10 is counted from the beginning, and comes before .* 50: make it larger",
        ),
        ({"quantizer": "none"}, "'vector', 'ema', 'gumbel', 'simvq', 'fsq', 'lfq', 'residual'"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig.validated(values, origin="test")
