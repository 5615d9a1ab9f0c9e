"""Batches of which several processes are given a part each."""

from __future__ import annotations

import copy
from typing import Self

from datasets.order import check_share

__all__ = ["Shared"]


class Shared:
    """What batches of images and of tokens have in common."""

    _batch_size: int
    _share: tuple[int, int, int] = (0, 1, 1)
    """Rank, number of processes, and pieces of a batch; for `Order.batch`."""

    def share(self, rank: int, world_size: int, num_pieces: int = 1) -> Self:
        """The same batches, of which this process is given its part alone: an equal share of each piece.

        Raises:
            ValueError: the batch cannot be cut into equal shares.
        """
        check_share(self._batch_size, rank, world_size, num_pieces)
        own = copy.copy(self)
        own._share = (rank, world_size, num_pieces)
        return own
