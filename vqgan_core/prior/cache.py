"""Keys and values of the tokens that were already read, so that a step costs one token and not all of them.

Axes: L layers, B batch, h heads, T positions, d head width.

One block of memory of full size is allocated once and written in place; the original concatenates a new one at every
step, which copies everything that is in it (O(T²) traffic).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class KeyValueCache:
    """Static keys and values of every layer; `length` positions of `max_length` are filled."""

    def __init__(self, keys: Float[Tensor, "L B h T d"], values: Float[Tensor, "L B h T d"]) -> None:
        self.keys = keys
        self.values = values
        self.length = 0
        self._layers = list(zip(keys, values, strict=True))  # views, made once

    @classmethod
    def allocate(
        cls, shape: tuple[int, int, int, int, int], *, device: torch.device, dtype: torch.dtype
    ) -> KeyValueCache:
        """Make an empty cache of (layers, batch, heads, positions, head width)."""
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))

    @property
    def batch_size(self) -> int:
        """B."""
        return self.keys.shape[1]

    @property
    def max_length(self) -> int:
        """T: positions that fit."""
        return self.keys.shape[3]

    def append(
        self, layer: int, keys: Float[Tensor, "B h n d"], values: Float[Tensor, "B h n d"]
    ) -> tuple[Float[Tensor, "B h t d"], Float[Tensor, "B h t d"]]:
        """Write n new positions of one layer; return views of all positions so far, the new ones included."""
        num_new = keys.shape[2]
        end = self.length + num_new
        assert end <= self.max_length, f"{end} positions do not fit into a cache of {self.max_length}"
        kept_keys, kept_values = self._layers[layer]
        kept_keys.narrow(2, self.length, num_new).copy_(keys)
        kept_values.narrow(2, self.length, num_new).copy_(values)
        return kept_keys.narrow(2, 0, end), kept_values.narrow(2, 0, end)

    def advance(self, num_positions: int) -> None:
        """Count the positions that every layer has just appended."""
        self.length += num_positions

    def select(self, rows: Int[Tensor, " B"]) -> None:
        """Let each row go on with the past of another: row i with that of rows[i]."""
        for block in (self.keys, self.values):
            block[:, :, :, : self.length] = block[:, rows, :, : self.length]

    def reset(self) -> None:
        """Forget everything and keep the memory, for the next batch of the same shape."""
        self.length = 0
