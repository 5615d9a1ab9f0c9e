"""Keys and values of the tokens that were already read, so that a step costs one token and not all of them.

Axes: L layers, B batch, h heads, T positions, d head width.

Memory of full size is allocated once and written in place; the original concatenates a new block at every step, which
copies everything that is in it (O(T²) traffic).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class KeyValueCache:
    """Static keys and values of every layer, each `B h T d`; `length` positions of `max_length` are filled."""

    def __init__(self, keys: Sequence[Float[Tensor, "B h T d"]], values: Sequence[Float[Tensor, "B h T d"]]) -> None:
        self.keys = list(keys)
        self.values = list(values)
        self.length = 0

    @classmethod
    def allocate(
        cls, num_layers: int, shape: tuple[int, int, int, int], *, device: torch.device, dtype: torch.dtype
    ) -> KeyValueCache:
        """Make an empty cache of (batch, heads, positions, head width) for each layer."""
        keys, values = ([torch.zeros(shape, device=device, dtype=dtype) for _ in range(num_layers)] for _ in range(2))
        return cls(keys, values)

    @property
    def batch_size(self) -> int:
        """B."""
        return self.keys[0].shape[0]

    @property
    def max_length(self) -> int:
        """T: positions that fit."""
        return self.keys[0].shape[2]

    def append(
        self, layer: int, keys: Float[Tensor, "B h n d"], values: Float[Tensor, "B h n d"]
    ) -> tuple[Float[Tensor, "B h t d"], Float[Tensor, "B h t d"]]:
        """Write n new positions of one layer; return views of all positions so far, the new ones included."""
        num_new = keys.shape[2]
        end = self.length + num_new
        assert end <= self.max_length, f"{end} positions do not fit into a cache of {self.max_length}"
        kept_keys, kept_values = self.keys[layer], self.values[layer]
        kept_keys.narrow(2, self.length, num_new).copy_(keys)
        kept_values.narrow(2, self.length, num_new).copy_(values)
        return kept_keys.narrow(2, 0, end), kept_values.narrow(2, 0, end)

    def advance(self, num_positions: int) -> None:
        """Count the positions that every layer has just appended."""
        self.length += num_positions

    def select(self, rows: Int[Tensor, " B"]) -> None:
        """Let each row go on with the past of another: row i with that of rows[i]."""
        for block in (*self.keys, *self.values):
            block[:, :, : self.length] = block[rows, :, : self.length]

    def reset(self) -> None:
        """Forget everything and keep the memory, for the next batch of the same shape."""
        self.length = 0


class CacheAt:
    """A cache as a step of one shape sees it: one position, told by a number on the device, is written; all are read.

    Args:
        cache: whose memory this is.
    """

    def __init__(self, cache: KeyValueCache) -> None:
        self.keys, self.values = cache.keys, cache.values
        self.position = torch.zeros(1, dtype=torch.int64, device=cache.keys[0].device)
        """Where the new position stands."""

    def append(
        self, layer: int, keys: Float[Tensor, "B h 1 d"], values: Float[Tensor, "B h 1 d"]
    ) -> tuple[Float[Tensor, "B h T d"], Float[Tensor, "B h T d"]]:
        """Write one position of one layer; return all of them, whether filled or not."""
        self.keys[layer].index_copy_(2, self.position, keys.to(self.keys[layer].dtype))
        self.values[layer].index_copy_(2, self.position, values.to(self.values[layer].dtype))
        return self.keys[layer], self.values[layer]
