"""A prior takes and gives raster tokens, whatever order it reads them in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vqgan_core.config import PriorConfig, SamplingConfig, TokenSpec
from vqgan_core.prior import Prior, Reading, sample_tokens
from vqgan_core.prior.orders import inverse, order_names, random_orders

CODES = 11
SPEC = TokenSpec(codebook_size=CODES, height=3, width=4, num_classes=3)
CELLS = torch.arange(SPEC.num_tokens)
BOTH = pytest.mark.parametrize("architecture", ["gpt", "modern"])
EVERY = pytest.mark.parametrize(
    ("architecture", "order"), [(kind, order) for kind in ("gpt", "modern") for order in order_names()]
)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make_prior(order: str, architecture: str = "gpt", **fields: Any) -> Prior:
    """A small prior whose every parameter matters, also those that start at zero."""
    torch.manual_seed(0)
    given = {"order": order, "architecture": architecture, "num_layers": 2, "num_heads": 2, "width": 16, **fields}
    prior = Prior(PriorConfig.model_validate(given), SPEC)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(CODES, (4, SPEC.num_tokens), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 1])


@torch.no_grad()
@EVERY
def test_each_token_is_predicted_from_those_before_it_in_the_order(
    architecture: str, order: str, tokens: Tensor, labels: Tensor
) -> None:
    prior = make_prior(order, architecture)
    logits, when = prior(tokens, labels), inverse(prior.order)
    for cell in range(SPEC.num_tokens):
        other = tokens.clone()
        other[:, cell] = (other[:, cell] + 1) % CODES
        moved = (prior(other, labels) - logits).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == (when > when[cell]).tolist()


@torch.no_grad()
@EVERY
def test_greedy_samples_are_the_argmax_of_the_uncached_logits(architecture: str, order: str, labels: Tensor) -> None:
    prior = make_prior(order, architecture)
    images = sample_tokens(prior, labels, range(4), SamplingConfig(temperature=0))
    assert torch.equal(prior(images, labels).argmax(-1), images)


@torch.no_grad()
@EVERY
def test_the_likelihood_is_that_of_the_logits_cell_by_cell(
    architecture: str, order: str, tokens: Tensor, labels: Tensor
) -> None:
    prior = make_prior(order, architecture)
    expected = -prior(tokens, labels).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(prior.nll(tokens, labels), expected)


@torch.no_grad()
def test_the_originals_transformer_is_the_same_in_every_fixed_order(tokens: Tensor, labels: Tensor) -> None:
    """Its positions are places in the sequence: a permuted prior is a raster one of permuted tokens."""
    raster = make_prior("row")
    for order in order_names()[:-1]:
        permuted = make_prior(order)
        sequence = tokens[:, permuted.order]
        torch.testing.assert_close(permuted.nll(tokens, labels)[:, permuted.order], raster.nll(sequence, labels))


@torch.no_grad()
@BOTH
def test_every_record_can_be_read_in_an_order_of_its_own(architecture: str, tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior("random_annealed", architecture)
    orders = random_orders(4, SPEC.num_tokens, 1.0, torch.Generator().manual_seed(0))
    logits = prior(tokens, labels, reading=Reading(orders=orders))
    for row in range(4):
        alone = prior(tokens[row][None], labels[row][None], reading=Reading(orders=orders[row][None]))
        torch.testing.assert_close(logits[row][None], alone, **CLOSE)
    when = inverse(orders)
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % CODES
    moved = (prior(other, labels, reading=Reading(orders=orders)) - logits).abs().amax(2) > 1e-6
    assert torch.equal(moved, when > when[:, 5:6])
    raster = Reading(orders=CELLS.expand(4, -1))
    assert torch.equal(prior(tokens, labels, reading=raster), prior(tokens, labels))


@torch.no_grad()
@BOTH
def test_the_next_cell_is_known_to_a_prior_of_random_orders(architecture: str, tokens: Tensor, labels: Tensor) -> None:
    """Two orders with the same past and another next cell predict another token."""
    prior = make_prior("random_annealed", architecture)
    swapped = CELLS.clone()
    swapped[[5, 9]] = swapped[[9, 5]]
    one, other = (prior(tokens, labels, reading=Reading(orders=order.expand(4, -1))) for order in (CELLS, swapped))
    torch.testing.assert_close(one[:, :5], other[:, :5], **CLOSE)
    same_place = one[:, 5] - other[:, 9]
    assert (same_place.abs().amax(-1) > 1e-4).all()


@BOTH
def test_corrupted_and_hidden_tokens_change_what_is_read_and_not_what_is_scored(
    architecture: str, tokens: Tensor, labels: Tensor
) -> None:
    prior = make_prior("spiral_out", architecture)
    logits = prior(tokens, labels)
    inputs = tokens.clone()
    first = int(prior.order[0])
    inputs[:, first] = (inputs[:, first] + 1) % CODES
    corrupted = prior(tokens, labels, reading=Reading(inputs=inputs))
    torch.testing.assert_close(corrupted, prior(inputs, labels))
    expected = -corrupted.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(prior.nll(tokens, labels, reading=Reading(inputs=inputs)), expected)
    hidden = CELLS[None] == first
    unread = prior(tokens, labels, reading=Reading(hidden=hidden.expand(4, -1)))
    assert ((unread - logits).abs().amax((0, 2)) > 1e-6).tolist() == (first != CELLS).tolist()
    torch.testing.assert_close(unread, prior(inputs, labels, reading=Reading(hidden=hidden.expand(4, -1))))


@EVERY
def test_files_hold_the_order(architecture: str, order: str, tokens: Tensor, labels: Tensor) -> None:
    prior = make_prior(order, architecture, order_seed=3)
    loaded = Prior.from_files(prior.to_files())
    assert torch.equal(loaded(tokens, labels), prior(tokens, labels))
    assert not any("order" in name for name in prior.state_dict())


def test_a_prior_of_a_fixed_order_cannot_be_told_another(tokens: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="in the order column alone"):
        make_prior("column")(tokens, labels, reading=Reading(orders=CELLS.expand(4, -1)))
