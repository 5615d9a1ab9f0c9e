"""Priors that are told other tokens first, alone or after a class: what they look at, cached or not, told or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, Reading, beam_search, sample_tokens
from vqgan_core.prior.cost import prior_cost

CODES = 7
SPEC = TokenSpec.model_validate({
    "codebook_size": CODES, "height": 2, "width": 3, "num_classes": 3,
    "columns": [
        {"name": "map", "codebook_size": 5, "height": 2, "width": 2},
        {"name": "boxes", "codebook_size": 9, "height": 1, "width": 3},
    ],
})  # fmt: skip
KINDS = {
    "map": {"condition": "none", "condition_columns": ["map"]},
    "class and map": {"condition": "class", "condition_columns": ["map"]},
    "boxes and map": {"condition": "none", "condition_columns": ["boxes", "map"]},
    "all": {"condition": "class", "condition_columns": ["map", "boxes"]},
}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
EVERY = pytest.mark.parametrize(
    ("kind", "architecture", "order"),
    [(kind, architecture, "row") for kind in KINDS for architecture in ("gpt", "modern")]
    + [
        ("all", architecture, order) for architecture in ("gpt", "modern") for order in ("spiral_in", "random_annealed")
    ],
)


def make_prior(kind: str, architecture: str = "gpt", order: str = "row", **fields: Any) -> Prior:
    torch.manual_seed(0)
    given = {"architecture": architecture, "order": order, "num_layers": 2, "num_heads": 2, "width": 16, **KINDS[kind]}
    prior = Prior(PriorConfig.model_validate({**given, **fields}), SPEC)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.eval()


def drawn(limit: int, *shape: int) -> Tensor:
    return torch.randint(limit, shape, generator=torch.Generator().manual_seed(sum(shape)))


TOKENS = drawn(CODES, 4, 6)
LABELS = torch.tensor([0, 1, 2, 1])
TOLD = {"map": drawn(5, 4, 4), "boxes": drawn(9, 4, 3)}


def told(prior: Prior) -> dict[str, Any]:
    """The condition of a batch of four."""
    columns = {name: TOLD[name] for name in prior.config.condition_columns}
    return {"labels": LABELS if prior.takes_labels else None, "columns": columns}


@torch.no_grad()
@EVERY
def test_every_condition_token_matters_to_every_token(kind: str, architecture: str, order: str) -> None:
    prior = make_prior(kind, architecture, order)
    condition = told(prior)
    logits = prior(TOKENS, **condition)
    for name, tokens in condition["columns"].items():
        size = SPEC.column(name).codebook_size
        for position in range(tokens.shape[1]):
            other = tokens.clone()
            other[:, position] = (other[:, position] + 1) % size
            changed = prior(TOKENS, condition["labels"], columns={**condition["columns"], name: other})
            assert bool(((changed - logits).abs().amax(-1) > 1e-6).all())


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["gpt", "modern"])
def test_only_the_images_own_tokens_have_a_likelihood_and_it_sums_to_one(architecture: str) -> None:
    columns = [{"name": "map", "codebook_size": 5, "height": 2, "width": 2}]
    spec = TokenSpec.model_validate({"codebook_size": 3, "height": 2, "width": 2, "columns": columns})
    config = {"architecture": architecture, "num_layers": 1, "num_heads": 1, "width": 8, **KINDS["map"]}
    torch.manual_seed(0)
    prior = Prior(PriorConfig.model_validate(config), spec).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    grids = torch.cartesian_prod(*[torch.arange(3)] * 4)
    for seed in range(2):
        row = torch.randint(5, (1, 4), generator=torch.Generator().manual_seed(seed)).expand(81, -1)
        nll = prior.nll(grids, columns={"map": row})
        assert nll.shape == (81, 4)
        assert nll.sum(-1).neg().exp().sum().item() == pytest.approx(1, rel=1e-5)


@torch.no_grad()
@EVERY
def test_a_dropped_condition_is_the_untold_one_whole(kind: str, architecture: str, order: str) -> None:
    """Guidance compares with this: neither class nor any column may shine through."""
    prior = make_prior(kind, architecture, order)
    condition, drop = told(prior), torch.tensor([True, False, True, False])
    embedded = prior.condition(condition["labels"], 4, drop, condition["columns"])
    whole = prior.condition(condition["labels"], 4, columns=condition["columns"])
    untold = prior.null_condition(4)
    assert torch.equal(embedded, torch.where(drop[:, None, None], untold, whole))
    assert bool((untold != whole).any(-1).all())


@torch.no_grad()
def test_the_only_beam_is_greedy_and_beams_are_scored_under_the_condition() -> None:
    prior = make_prior("boxes and map")
    condition = told(prior)
    greedy = sample_tokens(prior, None, range(4), SamplingConfig(temperature=0), columns=condition["columns"])
    assert torch.equal(beam_search(prior, None, num_beams=1, columns=condition["columns"]).tokens[:, 0], greedy)
    beams = beam_search(prior, None, num_beams=3, columns=condition["columns"])
    nll = prior.nll(beams.tokens[:, 0], columns=condition["columns"]).sum(-1)
    torch.testing.assert_close(beams.log_probability[:, 0], -nll, **CLOSE)


@torch.no_grad()
def test_hidden_image_tokens_leave_the_condition_told() -> None:
    prior = make_prior("all")
    hidden = torch.ones(4, 6, dtype=torch.bool)
    reading = Reading(hidden=hidden)
    logits = prior(TOKENS, LABELS, reading=reading, columns=TOLD)
    torch.testing.assert_close(prior((TOKENS + 1) % CODES, LABELS, reading=reading, columns=TOLD), logits, **CLOSE)
    assert not torch.allclose(prior(TOKENS, LABELS, reading=reading, columns={**TOLD, "map": 4 - TOLD["map"]}), logits)


def test_columns_that_do_not_fit_are_refused() -> None:
    prior = make_prior("map")
    for columns, message in (
        ({}, "this prior is told the tokens of column map: give them"),
        ({"map": TOLD["map"][:, :3]}, r"column map of shape \(4, 3\): this prior is told \(batch, 4\)"),
        ({"map": TOLD["map"] + 5}, "token of column map .: allowed are 0 … 4"),
        ({"map": TOLD["map"][:2]}, "2 rows of column map for a batch of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            prior(TOKENS, columns=columns)
    with pytest.raises(ValueError, match=r"columns \['boxes'\]: this prior is told \['map'\]"):
        sample_tokens(prior, None, range(4), SamplingConfig(), columns=TOLD)
    with pytest.raises(ValueError, match="this prior is told no class: it takes no labels"):
        sample_tokens(prior, LABELS, range(4), SamplingConfig(), columns=told(prior)["columns"])
    with pytest.raises(ValueError, match="condition column 'depth': these tokens have map, boxes"):
        make_prior("map", condition_columns=["depth"])
    with pytest.raises(ValueError, match="what is modelled cannot be told"):
        make_prior("map", condition_columns=["map"], target="map")


def test_priors_without_columns_keep_their_files() -> None:
    """Fields that came later are written only where they are used."""
    plain = make_prior("map", condition="class", condition_columns=[])
    assert b"condition_columns" not in plain.to_files()["config.json"]
    stored = Prior.from_files(make_prior("all").to_files())
    assert (stored.config.condition_columns, stored.spec) == (("map", "boxes"), SPEC)


def test_the_condition_is_counted_as_work() -> None:
    costs = {
        kind: prior_cost(make_prior(kind).config, SPEC).forward_flops_per_token for kind in ("map", "boxes and map")
    }
    prior = make_prior("map")
    matrices = sum(m.weight.numel() for m in prior.transformer.layers.modules() if isinstance(m, torch.nn.Linear))
    positions = 4 + 6 - 1
    attention = 2 * 4 * 16 * (positions + 1) / 2
    assert costs["map"] == pytest.approx((2 * matrices + attention) * positions / 6 + 2 * 16 * CODES)
    assert costs["boxes and map"] > costs["map"]
