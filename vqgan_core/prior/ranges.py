"""Refusing tokens and labels that no table has a row for."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def check_range(what: str, values: Int[Tensor, ...], limit: int, meaning: str) -> None:
    """Refuse values outside of 0 … limit - 1.

    Raises:
        ValueError: names the value and what is allowed.
    """
    if values.is_meta or not values.numel():
        return
    # On a GPU this waits for the device once a call; an index out of range would otherwise end the whole process there.
    low, high = (int(value) for value in torch.aminmax(values))
    if low < 0 or high >= limit:
        worst = low if low < 0 else high
        raise ValueError(f"{what} {worst}: allowed are 0 … {limit - 1} ({meaning} is {limit})")
