"""Gradient accumulation: a step's batch in equal pieces, whose mean losses have the whole batch's mean.

B batch, P pieces. Exact for every loss that is a mean over records. What is computed from a batch as a whole, BatchNorm
statistics in the discriminator and the adaptive weight λ, is a piece's own. With several processes a piece is what
all of them compute at once: each is given its share of every piece (`datasets` draws it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vqgan_core import distributed


def pieces(batch: Mapping[str, Tensor], num_pieces: int, device: torch.device) -> list[dict[str, Tensor]]:
    """Move a batch to the device and cut it.

    Raises:
        ValueError: the records do not divide into that many equal pieces.
    """
    for name, values in batch.items():
        if len(values) % num_pieces or not len(values):
            raise ValueError(
                f"a batch of {len(values)} {name} does not divide into {num_pieces} equal pieces: give batches of a "
                "multiple of accumulate_batches"
            )
    cut = {name: values.to(device, non_blocking=True).chunk(num_pieces) for name, values in batch.items()}
    return [{name: parts[index] for name, parts in cut.items()} for index in range(num_pieces)]


def mean_logs(logs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the pieces' and processes' scalars, on the device."""
    means = {name: torch.stack([piece[name] for piece in logs]).mean() for name in logs[0]} if logs else {}
    if distributed.world_size() == 1 or not means:
        return means
    values = distributed.mean(torch.stack([value.float() for value in means.values()]))
    return dict(zip(means, values.unbind(), strict=True))
