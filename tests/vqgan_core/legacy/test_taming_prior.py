"""Imports of taming transformers account for every key and refuse what they cannot place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.config import OrderName, TokenSpec
from vqgan_core.legacy.taming_prior import import_gpt, import_prior
from vqgan_core.prior.orders import token_order

WIDTH, VOCABULARY, LENGTH = 8, 12, 6


def original_state(prefix: str = "transformer.", num_layers: int = 2) -> dict[str, Tensor]:
    """Random weights under the original's names."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    state = {"pos_emb": random(1, LENGTH, WIDTH), "tok_emb.weight": random(VOCABULARY, WIDTH)}
    for index in range(num_layers):
        for norm in ("ln1", "ln2"):
            state |= {f"blocks.{index}.{norm}.weight": random(WIDTH), f"blocks.{index}.{norm}.bias": random(WIDTH)}
        for name, shape in {"attn.key": 1, "attn.query": 1, "attn.value": 1, "attn.proj": 1, "mlp.0": 4}.items():
            state[f"blocks.{index}.{name}.weight"] = random(shape * WIDTH, WIDTH)
            state[f"blocks.{index}.{name}.bias"] = random(shape * WIDTH)
        state[f"blocks.{index}.mlp.2.weight"] = random(WIDTH, 4 * WIDTH)
        state[f"blocks.{index}.mlp.2.bias"] = random(WIDTH)
        state[f"blocks.{index}.attn.mask"] = torch.ones(LENGTH, LENGTH).tril()[None, None]
    state |= {"ln_f.weight": random(WIDTH), "ln_f.bias": random(WIDTH), "head.weight": random(VOCABULARY, WIDTH)}
    return {prefix + key: value for key, value in state.items()}


def test_a_bare_gpt_and_one_inside_net2net_are_the_same() -> None:
    bare, inside = (import_gpt(original_state(prefix), num_heads=2) for prefix in ("", "transformer."))
    tokens = torch.arange(LENGTH)[None]
    assert torch.equal(bare.gpt(tokens), inside.gpt(tokens))
    assert bare.gpt.num_unmasked == 0
    assert all(parameter.requires_grad for parameter in bare.gpt.parameters())


def test_keys_of_other_parts_are_reported_and_not_lost() -> None:
    state = original_state() | {
        "first_stage_model.quantize.embedding.weight": torch.zeros(2, 2),
        "cond_stage_model.quantize.embedding.weight": torch.zeros(2, 2),
        "permuter.forward_shuffle_idx": torch.arange(LENGTH).flip(0),
        "permuter.backward_shuffle_idx": torch.arange(LENGTH).flip(0),
    }
    imported = import_gpt(state, num_heads=2)
    assert len(imported.report.other_stages) == 2
    assert len(imported.report.permuter) == 2
    assert imported.order is not None
    assert imported.order.tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="permuted order"):
        import_prior(state, TokenSpec(codebook_size=VOCABULARY, height=2, width=3), 2, sos_token=0)


def test_an_unmasked_prefix_is_read_off_the_mask() -> None:
    state = original_state()
    for key, mask in state.items():
        if key.endswith("mask"):
            mask[:, :, :3, :3] = 1
    assert import_gpt(state, num_heads=2).gpt.num_unmasked == 3


@pytest.mark.parametrize("key", ["transformer.head.weight", "transformer.blocks.0.mlp.2.bias"])
def test_missing_keys_are_named(key: str) -> None:
    state = original_state()
    del state[key]
    with pytest.raises(ValueError, match="1 keys missing"):
        import_gpt(state, num_heads=2)


@pytest.mark.parametrize("key", ["transformer.blocks.0.attn.extra.weight", "loss.weight", "transformer.blocks.0.mlp.1"])
def test_unknown_keys_are_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"1 unknown .*{key}"):
        import_gpt(original_state() | {key: torch.zeros(1)}, num_heads=2)


def test_what_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no key 'tok_emb\.weight'"):
        import_gpt({"encoder.conv_in.weight": torch.zeros(1)}, num_heads=2)
    with pytest.raises(ValueError, match="num_heads 3 does not divide width 8"):
        import_gpt(original_state(), num_heads=3)
    with pytest.raises(ValueError, match="shapes do not belong"):
        import_gpt(original_state() | {"transformer.ln_f.bias": torch.zeros(3)}, num_heads=2)
    with pytest.raises(ValueError, match="must have 2 axes"):
        import_gpt(original_state() | {"transformer.tok_emb.weight": torch.zeros(3)}, num_heads=2)
    holed = {key.replace("blocks.1.", "blocks.999999999."): value for key, value in original_state().items()}
    with pytest.raises(ValueError, match=r"keys missing .* unknown"):
        import_gpt(holed, num_heads=2)


def test_a_class_conditional_model_becomes_a_prior_with_its_own_condition_table() -> None:
    state = original_state()
    spec = TokenSpec(codebook_size=VOCABULARY, height=1, width=5, num_classes=4)
    prior = import_prior(state, spec, num_heads=2)
    gpt = import_gpt(state, num_heads=2).gpt
    tokens, labels = torch.tensor([[3, 1, 11, 0, 2]]), torch.tensor([3])
    expected = gpt(torch.cat([labels[:, None], tokens[:, :-1]], dim=1))
    torch.testing.assert_close(prior(tokens, labels), expected)
    torch.testing.assert_close(
        prior.class_embedding.weight[4], state["transformer.tok_emb.weight"][:4].mean(0), msg="null row"
    )


def test_specs_that_do_not_fit_are_refused() -> None:
    def spec(codebook_size: int = VOCABULARY, width: int = 5, num_classes: int = 4) -> TokenSpec:
        return TokenSpec(codebook_size=codebook_size, height=1, width=width, num_classes=num_classes)

    state = original_state()
    for wrong in (spec(codebook_size=13), spec(width=7)):
        with pytest.raises(ValueError, match="these tokens are of a"):
            import_prior(state, wrong, num_heads=2)
    for wrong, sos_token in (
        (spec(), 0),
        (spec(num_classes=0), None),
        (spec(num_classes=13), None),
        (spec(num_classes=0), 12),
    ):
        with pytest.raises(ValueError, match=r"sos_token (None|0|12):"):
            import_prior(state, wrong, num_heads=2, sos_token=sos_token)


@pytest.mark.parametrize("name", ["spiral_out", "subsample", "random"])
def test_a_permuted_model_becomes_a_prior_that_takes_raster_tokens(name: OrderName) -> None:
    order = token_order(name, 2, 3)
    buffers = {"permuter.forward_shuffle_idx": order, "permuter.backward_shuffle_idx": order.argsort()}
    state = original_state() | buffers
    spec = TokenSpec(codebook_size=VOCABULARY, height=2, width=3)
    prior = import_prior(state, spec, num_heads=2, sos_token=0)
    gpt = import_gpt(state, num_heads=2).gpt
    tokens = torch.tensor([[3, 1, 11, 0, 2, 7], [5, 5, 4, 8, 9, 10]])
    with torch.no_grad():
        sequence = gpt(torch.cat([torch.zeros(2, 1, dtype=torch.int64), tokens[:, order[:-1]]], dim=1))
        torch.testing.assert_close(prior(tokens), sequence[:, order.argsort()])
    wrong = state | {"permuter.backward_shuffle_idx": order}
    if not torch.equal(order, order.argsort()):
        with pytest.raises(ValueError, match="none of ours on a grid of 2 x 3"):
            import_prior(wrong, spec, num_heads=2, sos_token=0)
