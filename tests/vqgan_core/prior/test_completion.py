"""Images of which a part is given keep that part, and the rest is drawn knowing it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.vqgan_core.prior.test_reading_orders import CODES, EVERY, SPEC, make_prior
from vqgan_core.config import SamplingConfig
from vqgan_core.prior import Reading, sample_tokens
from vqgan_core.prior.completion import UNKNOWN, plan_completion
from vqgan_core.prior.orders import known_first_orders

PLAIN = SamplingConfig()
GREEDY = SamplingConfig(temperature=0)
LABELS = torch.tensor([0, 1, 2, 1])
N = SPEC.num_tokens


def some_known(share: float = 0.4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(CODES, (4, N), generator=generator)
    return tokens.where(torch.rand(4, N, generator=generator) < share, UNKNOWN)


@EVERY
@pytest.mark.parametrize("config", [PLAIN, SamplingConfig(guidance=2.0, top_k=3)])
def test_every_known_token_is_kept(architecture: str, order: str, config: SamplingConfig) -> None:
    known = some_known()
    images = sample_tokens(make_prior(order, architecture), LABELS, range(4), config, known=known)
    is_known = known != UNKNOWN
    assert torch.equal(images[is_known], known[is_known])
    assert images.min() >= 0
    assert len(images[~is_known].unique()) > 3


@torch.no_grad()
@EVERY
def test_the_rest_is_drawn_from_the_prior_knowing_what_came_before(architecture: str, order: str) -> None:
    prior, known = make_prior(order, architecture), some_known()
    images = sample_tokens(prior, LABELS, range(4), GREEDY, known=known)
    assert torch.equal(prior(images, LABELS).argmax(-1).where(known == UNKNOWN, known), images)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["gpt", "modern"])
def test_known_tokens_can_be_read_first_wherever_they_are(architecture: str) -> None:
    prior, known = make_prior("random_annealed", architecture), some_known()
    images = sample_tokens(prior, LABELS, range(4), GREEDY, known=known, known_first=True)
    orders = known_first_orders(known != UNKNOWN)
    logits = prior(images, LABELS, reading=Reading(orders=orders))
    assert torch.equal(logits.argmax(-1).where(known == UNKNOWN, known), images)
    # The last cell alone is known: in raster order nobody looks at it, read first it moves the others.
    corner = torch.full((4, N), UNKNOWN)
    corner[:, -1] = torch.arange(4)
    free = sample_tokens(prior, LABELS, range(4), PLAIN)
    assert torch.equal(sample_tokens(prior, LABELS, range(4), PLAIN, known=corner)[:, :-1], free[:, :-1])
    first = sample_tokens(prior, LABELS, range(4), PLAIN, known=corner, known_first=True)
    assert not torch.equal(first[:, :-1], free[:, :-1])


def test_completing_an_image_with_its_own_upper_part_gives_it_back() -> None:
    prior = make_prior("row")
    whole = sample_tokens(prior, LABELS, range(4), PLAIN)
    upper = whole.where(torch.arange(N) < N // 2, UNKNOWN)
    steps: list[tuple[int, int]] = []
    again = sample_tokens(prior, LABELS, range(4), PLAIN, lambda *done: steps.append(done), known=upper)
    assert torch.equal(again, whole)
    assert steps == [(step, N - N // 2) for step in range(1, N - N // 2 + 1)]  # the known half is read at once


def test_an_image_does_not_depend_on_what_is_known_of_its_neighbours() -> None:
    prior, known = make_prior("random_annealed"), some_known()
    for first in (False, True):
        batch = sample_tokens(prior, LABELS, range(4), PLAIN, known=known, known_first=first)
        for row in range(4):
            one = slice(row, row + 1)
            alone = sample_tokens(prior, LABELS[one], [row], PLAIN, known=known[one], known_first=first)
            assert torch.equal(alone[0], batch[row])


def test_nothing_known_and_everything_known() -> None:
    prior = make_prior("alternate")
    nothing = torch.full((4, N), UNKNOWN)
    free = sample_tokens(prior, LABELS, range(4), PLAIN)
    assert torch.equal(sample_tokens(prior, LABELS, range(4), PLAIN, known=nothing), free)
    everything = some_known(share=1.0)
    assert torch.equal(sample_tokens(prior, LABELS, range(4), PLAIN, known=everything), everything)


def test_what_all_images_know_first_is_read_at_once() -> None:
    known = torch.full((4, N), UNKNOWN)
    known[:, :5] = 1
    known[0, 4] = UNKNOWN
    assert plan_completion(make_prior("row"), known, 4).num_given == 4
    assert plan_completion(make_prior("column"), known, 4).num_given == 1


@pytest.mark.parametrize(
    ("order", "arguments", "message"),
    [
        ("row", {"known": torch.zeros(4, 5, dtype=torch.int64)}, r"shape \(4, 5\): expected \(4, 12\)"),
        ("row", {"known": torch.full((4, N), CODES)}, "known tokens 11 … 11: allowed are 0 … 10, and -1"),
        ("row", {"known": torch.full((4, N), -2)}, "known tokens -2 … -2"),
        ("row", {"known": some_known(), "known_first": True}, "in the order row alone"),
        ("random_annealed", {"known_first": True}, "without known tokens"),
    ],
)
def test_what_a_caller_can_do_wrong(order: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_tokens(make_prior(order), LABELS, range(4), PLAIN, **arguments)
