"""Attention in bf16 on a CPU is as near to the truth as bf16 is, also where it is not PyTorch's kernel."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vqgan_core.prior import attention
from vqgan_core.prior.attention import BLOCK, LONGEST, Visibility, attend, join_heads, split_heads

CAUSAL = Visibility(None, is_causal=True)


def inputs(length: int, heads: int = 2, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, heads, length, 16).to(dtype).requires_grad_() for _ in range(3)]


def output_and_gradients(parts: list[Tensor]) -> list[Tensor]:
    mixed = attend(*parts, CAUSAL)
    torch.autograd.backward((mixed.double() * torch.linspace(-1, 1, mixed.shape[2])[:, None]).sum())
    found = [mixed.detach().double()]
    for part in parts:
        assert part.grad is not None
        found.append(part.grad.double())
    return found


@pytest.mark.parametrize("length", [1, 5, BLOCK, BLOCK + 1, 2 * BLOCK + 40])
def test_blocks_are_the_whole(length: int) -> None:
    exact = output_and_gradients([part.detach().double().requires_grad_() for part in inputs(length)])
    with patch.object(attention, "_in_blocks", wraps=attention._in_blocks) as blocks:
        found = output_and_gradients(inputs(length))
    assert blocks.call_count == 1
    for name, one, other in zip(("output", "query", "key", "value"), found, exact, strict=True):
        scale = other.norm().clamp_min(1e-3)  # one position alone: its query and key have no gradient
        assert (one - other).norm() < 0.012 * scale, name


def test_no_position_looks_ahead() -> None:
    query, key, value = (part.detach() for part in inputs(BLOCK + 30))
    before = attend(query, key, value, CAUSAL)
    for at in (7, BLOCK - 1, BLOCK, BLOCK + 20):
        changed = value.clone()
        changed[:, :, at] += 5
        moved = (attend(query, key, changed, CAUSAL) != before).any(dim=(0, 1, 3))
        assert not moved[:at].any()
        assert moved[at]


def test_autocast_does_not_reach_into_it() -> None:
    parts = [part.detach() for part in inputs(40)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = attend(*parts, CAUSAL)
    assert inside.dtype == torch.bfloat16
    assert torch.equal(inside, attend(*parts, CAUSAL))


def test_dropout_leaves_out_its_share_and_keeps_the_sum() -> None:
    query, key, _ = (part.detach() for part in inputs(BLOCK))
    value = torch.ones_like(query)
    torch.manual_seed(0)
    dropped = attend(query, key, value, CAUSAL, 0.25)
    assert (dropped != 1).any()
    assert dropped[:, :, 20:].float().mean().item() == pytest.approx(1, abs=0.02)
    first = dropped[:, :, 0].float().unique()  # sees itself alone: left out, or scaled up
    assert first.tolist() == pytest.approx([0, 1 / 0.75], abs=0.01)


@pytest.mark.parametrize(
    ("parts", "visible"),
    [
        (inputs(40, dtype=torch.float32), CAUSAL),
        (inputs(LONGEST + 1), CAUSAL),
        ([inputs(40, heads=4)[0], *inputs(40)[1:]], CAUSAL),
        (inputs(40), Visibility(torch.ones(40, 40, dtype=torch.bool).tril(), is_causal=False)),
        ([inputs(40)[0][:, :, -1:], *inputs(40)[1:]], Visibility(None, is_causal=False)),
    ],
    ids=["fp32", "long", "shared heads", "mask", "one query"],
)
def test_everything_else_is_pytorchs(parts: list[Tensor], visible: Visibility) -> None:
    query, key, value = (part.detach() for part in parts)
    expected = scaled_dot_product_attention(
        query, key, value, visible.mask, is_causal=visible.is_causal, enable_gqa=query.shape[1] != key.shape[1]
    )
    assert torch.equal(attend(query, key, value, visible), expected)


def test_heads_come_apart_and_together() -> None:
    x = torch.randn(2, 5, 12)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 3, 5, 4)
    assert torch.equal(heads[:, 1, :, 0], x[:, :, 4])
    assert torch.equal(join_heads(heads), x)
