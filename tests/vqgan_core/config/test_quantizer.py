"""The union of quantizers: what a config without a kind means, what is refused, and that old fingerprints stay."""

from __future__ import annotations

from typing import Any

import pytest

from vqgan_core.config import ConfigError, TokenizerConfig, TrainTokenizerConfig, VectorQuantizerConfig, sha256_json


@pytest.mark.parametrize(
    ("overrides", "digest"),
    [
        ({}, "03028c93fa6dc1ed0d04ab065adeb374cf5952b8eae418b206375ea0de5845bf"),
        (
            {"quantizer": {"restart_dead_codes_after_steps": 5}},
            "9d989cdb16acefddc2e5d6e418cd5a32f2b01f4e8679267c9be6e8dccc012521",
        ),
    ],
)
def test_recipes_from_before_the_union_are_the_same(overrides: dict[str, Any], digest: str) -> None:
    """A changed digest here gives every tokenizer that was ever trained another fingerprint."""
    assert sha256_json(TrainTokenizerConfig.load(overrides=overrides).recipe()) == digest


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
        ({"quantizer": "none"}, "'vector', 'ema', 'gumbel', 'simvq', 'fsq', 'lfq', 'residual'"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig.validated(values, origin="test")
