"""Each parameter is in one group, and only matrices of linear layers are decayed."""

from __future__ import annotations

from torch import nn

from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.prior import Prior, decay_groups


def test_every_parameter_of_a_prior_is_in_one_group() -> None:
    prior = Prior(
        PriorConfig(num_layers=2, num_heads=2, width=16), TokenSpec(codebook_size=8, height=2, width=2, num_classes=3)
    )
    decayed, undecayed = decay_groups(prior, 0.1)
    names = {id(parameter): name for name, parameter in prior.named_parameters()}
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    assert sorted(names[id(p)] for p in decayed["params"] + undecayed["params"]) == sorted(names.values())
    assert {"transformer.head.weight", "transformer.layers.1.mlp.2.weight"} <= {names[id(p)] for p in decayed["params"]}
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    still = {names[id(p)] for p in undecayed["params"]}
    assert {"class_embedding.weight", "transformer.token_embedding.weight", "transformer.position_embedding"} <= still


def test_frozen_parameters_are_left_out_and_empty_groups_too() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.LayerNorm(2))
    module[1].requires_grad_(False)
    groups = decay_groups(module, 0.1)
    assert [[id(p) for p in group["params"]] for group in groups] == [[id(module[0].weight)]]


def test_a_weight_that_an_embedding_shares_is_not_decayed() -> None:
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    (group,) = decay_groups(nn.ModuleList([head, embedding]), 0.1)
    assert group["weight_decay"] == 0.0
    assert len(group["params"]) == 1
