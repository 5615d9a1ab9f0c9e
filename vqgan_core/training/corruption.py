"""What training changes about how tokens are read; what has to be predicted stays clean.

Axes: B batch, N tokens, K codebook entries.

Sources: replaced tokens are the original's `pkeep` (1 - our token_corruption), drawn uniformly from the whole codebook,
so that one in K of them is the token itself; tokens that are not read, word dropout, Bowman et al. 2016
(arXiv 1511.06349), with zeros in place of an embedding; random orders with annealing to raster, Yu et al. 2024 (RAR,
arXiv 2411.00776).

Everything is drawn on the CPU for the whole global batch, each from a stream of its own: the same whatever the device
and the number of pieces and processes, and switching one on leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vqgan_core import distributed
from vqgan_core.config import TokenSpec, TrainPriorConfig
from vqgan_core.prior.orders import random_orders
from vqgan_core.prior.reading import Reading
from vqgan_core.training import streams
from vqgan_core.training.schedule import random_order_probability

FIELDS = ("inputs", "hidden", "orders")


class Corruption:
    """Draws how each training batch is read.

    Args:
        config: shares, order and seed.
        spec: the tokens.
    """

    def __init__(self, config: TrainPriorConfig, spec: TokenSpec) -> None:
        seed = config.training.seed
        self._config = config
        self._spec = spec
        self._streams = {
            "inputs": streams.stream(seed, "token corruption"),
            "hidden": streams.stream(seed, "token dropout"),
            "orders": streams.stream(seed, "random orders"),
        }

    def draw(self, tokens: Int[Tensor, "B N"], step: int) -> dict[str, Tensor]:
        """Columns to add to a batch; `reading` makes sense of them. Nothing is drawn for what is switched off."""
        config, drawn = self._config, dict[str, Tensor]()
        shape = (len(tokens) * distributed.world_size(), tokens.shape[1])
        if config.token_corruption:
            replaced, noise = corruption(
                shape, config.token_corruption, self._spec.codebook_size, self._streams["inputs"]
            )
            drawn["inputs"] = torch.where(self._own(replaced, tokens), self._own(noise, tokens), tokens)
        if config.token_dropout:
            drawn["hidden"] = self._own(bernoulli(shape, config.token_dropout, self._streams["hidden"]), tokens)
        if config.order == "random_annealed":
            probability = random_order_probability(config.random_order, step, config.training.num_steps)
            orders = random_orders(shape[0], self._spec.num_tokens, probability, self._streams["orders"])
            drawn["orders"] = self._own(orders, tokens)
        return drawn

    def _own(self, rows: Tensor, like: Tensor) -> Tensor:
        """This process' rows, where the tokens are."""
        return distributed.own_rows(rows, self._config.training.accumulate_batches).to(like.device)

    def state_dict(self) -> dict[str, Tensor]:
        """Positions of the streams."""
        return {name: stream.get_state() for name, stream in self._streams.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        for name, stream in self._streams.items():
            stream.set_state(state[name])


def reading(batch: Mapping[str, Tensor]) -> Reading:
    """How a batch is read, from the columns that `Corruption.draw` added, or as it is."""
    return Reading(**{name: batch[name] for name in FIELDS if name in batch})


def corruption(
    shape: tuple[int, int], share: float, codebook_size: int, generator: torch.Generator
) -> tuple[Bool[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Which tokens are replaced, and by which uniformly random ones."""
    replaced = bernoulli(shape, share, generator)
    return replaced, torch.randint(codebook_size, shape, generator=generator)


def bernoulli(shape: tuple[int, ...], share: float, generator: torch.Generator) -> Bool[Tensor, ...]:
    """True with this probability, each by itself."""
    return torch.rand(shape, generator=generator) < share
