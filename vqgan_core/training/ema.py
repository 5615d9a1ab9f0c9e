"""Exponential moving average of a module's weights.

    shadow <- shadow + (1 - d) (weights - shadow),   d = min(decay, (1 + n) / (10 + n)) after n updates

The ramp keeps the random initial weights out of short runs. Policy: floating parameters are averaged in their own
precision; buffers (running statistics, counters) are copied, because an average of them belongs to no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightsEma:
    """A moving average beside a module.

    Args:
        module: whose parameters are averaged; the average starts at their present values.
        decay: the longest memory, below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._num_updates = 0
        self._shadow = [parameter.detach().clone() for parameter in module.parameters()]

    @property
    def decay(self) -> float:
        """The decay of the next update."""
        return min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the module's weights: once after each optimiser step."""
        weights = [parameter.detach() for parameter in self._module.parameters()]
        torch._foreach_lerp_(self._shadow, weights, 1.0 - self.decay)
        self._num_updates += 1

    def shadow(self, parameter: nn.Parameter) -> Tensor:
        """The average of one parameter, for code that moves weights by hand and must move this as well."""
        for candidate, average in zip(self._module.parameters(), self._shadow, strict=True):
            if candidate is parameter:
                return average
        raise KeyError("this parameter is none of the averaged module's")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has the averaged weights; no copies are made. Do not train inside."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """The average by parameter name, and the number of updates."""
        names = [name for name, _ in self._module.named_parameters()]
        return {"num_updates": self._num_updates, "weights": dict(zip(names, self._shadow, strict=True))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        names = [name for name, _ in self._module.named_parameters()]
        if set(names) != set(state["weights"]):
            raise ValueError("the saved average belongs to another module: its parameter names differ")
        for name, average in zip(names, self._shadow, strict=True):
            average.copy_(state["weights"][name])
        self._num_updates = int(state["num_updates"])

    def _swap(self) -> None:
        for index, parameter in enumerate(self._module.parameters()):
            parameter.data, self._shadow[index] = self._shadow[index], parameter.data
