"""The modern transformer: its parts do what their papers say, with a cache and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.prior import Prior, decay_groups, prior_cost
from vqgan_core.prior.modern import ModernTransformer, RMSNorm, RotaryGrid, mlp_width, rotate

GRID = (3, 5)
CODES = 17
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make(num_key_value_heads: int = 4, dropout: float = 0.0, std: float | None = 0.3) -> ModernTransformer:
    """A small transformer; with `std` every parameter matters, also those that start at zero."""
    torch.manual_seed(0)
    config = PriorConfig(
        architecture="modern", num_layers=2, num_heads=4, num_key_value_heads=num_key_value_heads, width=32,
        dropout=dropout,
    )  # fmt: skip
    model = ModernTransformer(config, CODES, GRID)
    for parameter in model.parameters() if std else ():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(CODES, (3, 15), generator=torch.Generator().manual_seed(1))


def test_the_condition_is_not_turned_and_not_zeroed() -> None:
    """LlamaGen's table holds zeros for the condition (gpt.py, precompute_freqs_cis_2d): its query and key become 0."""
    rotary = RotaryGrid(*GRID, head_width=8)
    query = torch.randn(2, 4, 1, 8)
    for positions in (None, torch.zeros(1, 1, dtype=torch.int64)):
        assert torch.equal(rotate(query, rotary(0, 1, positions)), query)


def test_scores_depend_on_the_offset_of_rows_and_columns_alone() -> None:
    rotary = RotaryGrid(6, 7, head_width=16)
    query, key = torch.randn(2, 1, 1, 1, 16)
    angles = rotary(0, 43, None)
    turned_q, turned_k = (rotate(x.expand(1, 1, 43, 16), angles)[0, 0, 1:] for x in (query, key))
    scores = (turned_q @ turned_k.T).view(6, 7, 6, 7)
    torch.testing.assert_close(scores[0, 0, 2, 3], scores[3, 2, 5, 5])
    torch.testing.assert_close(scores[4, 6, 1, 0], scores[5, 6, 2, 0])
    assert not torch.isclose(scores[0, 0, 2, 3], scores[0, 0, 3, 2])
    torch.testing.assert_close(turned_q.norm(dim=-1), query.flatten().norm().expand(42))


def test_rotary_positions_survive_a_cast_to_bf16() -> None:
    rotary = RotaryGrid(40, 40, head_width=16)
    before = rotary(0, 1601, None)
    after = rotary.bfloat16()(0, 1601, None)
    assert torch.equal(before.cos, after.cos)
    assert torch.equal(before.sin, after.sin)


def test_the_norm_is_one_over_the_root_of_the_mean_square() -> None:
    norm, x = RMSNorm(6), torch.randn(4, 6)
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_an_untrained_model_is_uniform_and_learns(tokens: Tensor) -> None:
    model = make(std=None)
    assert not model(tokens).any()
    assert all(not p.any() for name, p in model.named_parameters() if "projection" in name or "down" in name)
    assert model.layers[0].attention.query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(torch.tensor(CODES).log().item())
    assert losses[-1] < 0.3


@torch.no_grad()
@pytest.mark.parametrize("num_key_value_heads", [4, 2, 1])
@pytest.mark.parametrize("chunks", [[15], [5, 1, 1, 8], [1] * 15])
def test_cached_chunks_equal_the_whole(tokens: Tensor, chunks: list[int], num_key_value_heads: int) -> None:
    model = make(num_key_value_heads)
    cache = model.new_cache(len(tokens))
    assert [keys.shape for keys in cache.keys] == 2 * [(3, num_key_value_heads, 16, 8)]
    pieces = [model(piece, cache=cache) for piece in tokens.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), **CLOSE)


@torch.no_grad()
def test_grouped_heads_are_repeated_heads(tokens: Tensor) -> None:
    grouped, full = make(2), make(4)
    state = grouped.state_dict()
    for name, weight in state.items():
        if name.endswith(("key.weight", "value.weight")):
            state[name] = weight.view(2, 8, 32).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    torch.testing.assert_close(full(tokens), grouped(tokens), **CLOSE)


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
def test_activation_checkpointing_changes_no_number(architecture: str) -> None:
    config = PriorConfig.model_validate(
        {"architecture": architecture, "num_layers": 2, "num_heads": 2, "width": 16, "dropout": 0.3, "order": "column"}
    )
    spec = TokenSpec(codebook_size=CODES, height=3, width=4, num_classes=2)
    gradients = []
    for saving in (False, True):
        torch.manual_seed(0)
        prior = Prior(config, spec).train()
        for parameter in prior.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        prior.transformer.activation_checkpointing = saving
        prior.nll(torch.arange(24).view(2, 12) % CODES, torch.tensor([0, 1])).mean().backward()
        gradients.append([parameter.grad for parameter in prior.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("fields", [{}, {"num_key_value_heads": 2}, {"order": "z_curve"}])
def test_its_cost_is_that_of_the_built_model(fields: dict[str, Any]) -> None:
    config = PriorConfig.model_validate(
        {"architecture": "modern", "num_layers": 3, "num_heads": 4, "width": 64, **fields}
    )
    spec = TokenSpec(codebook_size=100, height=4, width=6, num_classes=7)
    cost, prior = prior_cost(config, spec), Prior(config, spec)
    assert cost.num_parameters == sum(parameter.numel() for parameter in prior.parameters())
    shared = 64 * 64 // (2 if "num_key_value_heads" in fields else 1)
    assert mlp_width(64) == 192
    assert cost.num_matrix_parameters == 3 * (2 * 64 * 64 + 2 * shared + 3 * 64 * 192) + 100 * 64
    decayed = decay_groups(prior, 0.1)[0]["params"]
    assert sum(parameter.numel() for parameter in decayed) == cost.num_matrix_parameters


def test_it_runs_under_bf16_autocast_without_a_warning(tokens: Tensor, recwarn: pytest.WarningsRecorder) -> None:
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
    torch.testing.assert_close(logits.float(), model(tokens), atol=0.3, rtol=0.1)
    assert not len(recwarn)


def test_dropout_acts_in_training_only(tokens: Tensor) -> None:
    model = make(dropout=0.5)
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))
