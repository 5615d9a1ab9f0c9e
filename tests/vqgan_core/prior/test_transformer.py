"""The transformer sees only what it may see, with a cache and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqgan_core.prior import GPT
from vqgan_core.prior.attention import Visibility, visibility

VOCABULARY, LENGTH = 17, 12
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make_gpt(num_unmasked: int = 0, dropout: float = 0.0) -> GPT:
    """A small transformer whose every parameter matters (also those that start at zero)."""
    torch.manual_seed(0)
    gpt = GPT(VOCABULARY, LENGTH, num_layers=2, num_heads=2, width=16, dropout=dropout, num_unmasked=num_unmasked)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return gpt.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(1))


def changed(gpt: GPT, tokens: Tensor, position: int) -> list[int]:
    """Positions whose logits move when one token does."""
    other = tokens.clone()
    other[:, position] = (other[:, position] + 1) % VOCABULARY
    with torch.no_grad():
        moved = (gpt(tokens) - gpt(other)).abs().amax((0, 2)) > 1e-6
    return moved.nonzero().flatten().tolist()


def test_a_token_moves_its_own_and_later_logits_alone(tokens: Tensor) -> None:
    gpt = make_gpt()
    for position in range(LENGTH):
        assert changed(gpt, tokens, position) == list(range(position, LENGTH))


def test_an_unmasked_prefix_sees_itself_in_both_directions_and_nothing_later(tokens: Tensor) -> None:
    gpt = make_gpt(num_unmasked=4)
    assert changed(gpt, tokens, 3) == list(range(LENGTH))
    assert changed(gpt, tokens, 4) == list(range(4, LENGTH))


@torch.no_grad()
def test_prefix_embeddings_take_positions_like_tokens(tokens: Tensor) -> None:
    gpt = make_gpt()
    as_prefix = gpt(tokens[:, 3:], gpt.token_embedding(tokens[:, :3]))
    torch.testing.assert_close(as_prefix, gpt(tokens), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("num_unmasked", [0, 4])
@pytest.mark.parametrize("chunks", [[12], [5, 1, 1, 5], [4, 8], [6, 2, 4], [5] + [1] * 7])
def test_cached_chunks_equal_the_whole(tokens: Tensor, chunks: list[int], num_unmasked: int) -> None:
    """Also a chunk of several tokens after cached ones, which is not causal in the original."""
    gpt = make_gpt(num_unmasked)
    cache = gpt.new_cache(len(tokens))
    pieces = [gpt(piece, cache=cache) for piece in tokens.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), gpt(tokens), **CLOSE)


@torch.no_grad()
def test_a_cache_is_one_block_that_can_be_used_again(tokens: Tensor) -> None:
    gpt = make_gpt()
    cache = gpt.new_cache(len(tokens))
    memory = [tensor.data_ptr() for tensor in (*cache.keys, *cache.values)]
    first = [gpt(token, cache=cache) for token in tokens.split(1, dim=1)]
    cache.reset()
    second = [gpt(token, cache=cache) for token in tokens.split(1, dim=1)]
    assert [tensor.data_ptr() for tensor in (*cache.keys, *cache.values)] == memory
    assert torch.equal(torch.cat(first), torch.cat(second))


def test_a_mask_is_made_only_where_one_is_needed() -> None:
    cpu = torch.device("cpu")
    assert visibility(0, 9, 0, cpu) == Visibility(None, is_causal=True)
    assert visibility(8, 9, 0, cpu) == Visibility(None, is_causal=False)
    assert visibility(8, 9, 4, cpu) == Visibility(None, is_causal=False)
    chunk = visibility(1, 3, 0, cpu).mask
    assert chunk is not None
    assert chunk.tolist() == [[True, True, False], [True, True, True]]
    prefix = visibility(0, 3, 2, cpu).mask
    assert prefix is not None
    assert prefix.tolist() == [[True, True, False], [True, True, False], [True, True, True]]


def test_dropout_acts_in_training_only(tokens: Tensor) -> None:
    gpt = make_gpt(dropout=0.5)
    assert torch.equal(gpt(tokens), gpt(tokens))
    gpt.train()
    assert not torch.equal(gpt(tokens), gpt(tokens))


def test_it_starts_as_the_original_does() -> None:
    torch.manual_seed(0)
    gpt = GPT(500, 64, num_layers=1, num_heads=4, width=64)
    assert not gpt.position_embedding.any()
    for name, parameter in gpt.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert parameter.eq(1).all(), name
        elif name != "position_embedding":
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_what_a_caller_can_do_wrong(tokens: Tensor) -> None:
    gpt = make_gpt()
    with pytest.raises(ValueError, match=r"24 positions .* has 12"):
        gpt(tokens.repeat(1, 2))
    with pytest.raises(ValueError, match="no gradients"):
        gpt(tokens, cache=gpt.new_cache(3))
    with torch.no_grad(), pytest.raises(ValueError, match=r"12 positions .* has 5"):
        gpt(tokens, cache=gpt.new_cache(3, max_length=5))
    with pytest.raises(ValueError, match="num_heads 3 does not divide width 16"):
        GPT(VOCABULARY, LENGTH, num_layers=1, num_heads=3, width=16)
    unmasked = make_gpt(num_unmasked=4)
    cache = unmasked.new_cache(3)
    with torch.no_grad():
        unmasked(tokens[:, :2], cache=cache)
    with torch.no_grad(), pytest.raises(ValueError, match="must enter the cache in one call"):
        unmasked(tokens[:, 2:], cache=cache)
