"""Images of which a part is given: which tokens are known, and in which order the rest is drawn.

Axes: B images, N tokens, R rows (B, or 1 for all alike).

A known token is read and never drawn. In the order of the prior, a token is drawn knowing the tokens before it, so
known tokens that come later are kept but not looked at; for a given upper part in raster order there are none. A prior
that was trained on random orders can read all known tokens first, wherever they are (`known_first`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vqgan_core.prior.model import Prior, in_order
from vqgan_core.prior.orders import inverse, known_first_orders

UNKNOWN = -1
"""Stands for a token that is to be drawn."""


@dataclass(frozen=True)
class Completion:
    """The orders of a batch, and its known tokens as the orders meet them."""

    orders: Int[Tensor, "R N"]
    """Cells in the order in which they are read."""
    known: Int[Tensor, "B N"] | None
    """Known tokens in that order, UNKNOWN elsewhere; None: nothing is known."""
    num_given: int
    """The first so many tokens are known in every image and can be read at once."""

    @property
    def given(self) -> Int[Tensor, "B M"] | None:
        """The tokens that are known in every image before the first one is drawn."""
        return None if self.known is None else self.known[:, : self.num_given]

    def keep(self, drawn: Int[Tensor, " B"], step: int) -> Int[Tensor, " B"]:
        """Put known tokens in place of drawn ones."""
        if self.known is None:
            return drawn
        known = self.known[:, step]
        return torch.where(known == UNKNOWN, drawn, known)

    def to_raster(self, sequence: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """Tokens row by row, from the order in which they were read."""
        return in_order(sequence, inverse(self.orders))


def plan_completion(
    prior: Prior, known: Int[Tensor, "B N"] | None, batch_size: int, *, known_first: bool = False
) -> Completion:
    """Say what is read and drawn when.

    Args:
        prior: its order is used, unless known_first.
        known: row by row, UNKNOWN where a token is to be drawn; None: everywhere.
        batch_size: B.
        known_first: read all known tokens before anything is drawn.

    Raises:
        ValueError: another shape, a token out of range, or known_first of a prior with a fixed order.
    """
    orders = prior.order[None]
    if known_first:
        if prior.config.order != "random_annealed":
            raise ValueError(
                f"this prior reads in the order {prior.config.order} alone: known tokens can be read first only by one "
                "with order random_annealed"
            )
        if known is None:
            raise ValueError("known_first without known tokens: give them, or leave it off")
    if known is None:
        return Completion(orders, None, 0)
    known = known.to(prior.device)
    num_tokens = prior.spec.num_tokens
    if known.shape != (batch_size, num_tokens):
        raise ValueError(f"known tokens of shape {tuple(known.shape)}: expected ({batch_size}, {num_tokens})")
    low, high = (int(value) for value in torch.aminmax(known))
    if low < UNKNOWN or high >= prior.spec.codebook_size:
        raise ValueError(
            f"known tokens {low} … {high}: allowed are 0 … {prior.spec.codebook_size - 1}, and {UNKNOWN} for one "
            "that is to be drawn"
        )
    if known_first:
        orders = known_first_orders(known != UNKNOWN)
    known = in_order(known, orders)
    given = (known != UNKNOWN).all(0)
    return Completion(orders, known, int(given.cumprod(0).sum()))
