"""Optimisers and gradients.

Adam with decoupled weight decay for everything: with decay 0 it is the original's Adam, with decay on matrices its
AdamW. Fused kernels where there are any (on a CPU a quarter of the time of the plain loop).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core import distributed
from vqgan_core.config import PriorTrainingConfig, TokenizerTrainingConfig
from vqgan_core.training.progress import NonFiniteError
from vqgan_core.training.schedule import learning_rate
from vqgan_core.training.sharding import is_sharded, load_whole_state, whole_state, whole_tensor

ParamGroups = Sequence[Mapping[str, Any]]


def adam(
    params: Iterable[nn.Parameter] | ParamGroups,
    *,
    betas: tuple[float, float],
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    """Build the optimiser; its learning rate is set before each step by `set_learning_rate`.

    Args:
        params: parameters, or groups that may carry their own `weight_decay`.
        betas: decay rates of the two moments.
        weight_decay: for groups that do not say.
    """
    groups: list[Any] = [dict(item) if isinstance(item, Mapping) else item for item in params]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of an optimiser this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Float[Tensor, ""]:
    """The global L2 norm of the gradients that there are."""
    return whole_tensor(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


def clip_gradients(parameters: Sequence[nn.Parameter], norm: Float[Tensor, ""], max_norm: float | None) -> None:
    """Scale gradients of this global norm down to `max_norm`; None leaves them."""
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def require_finite(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Fetch these scalars in one transfer: the one wait for the device in a step.

    Raises:
        NonFiniteError: one of them is NaN or infinite; names those.
    """
    names, scalars = list(values), torch.stack([value.detach().float() for value in values.values()])
    finite = torch.isfinite(scalars)
    numbers = dict(zip(names, scalars.tolist(), strict=True))
    if not bool(finite.all()):
        raise NonFiniteError(
            {name: numbers[name] for name, fine in zip(names, finite.tolist(), strict=True) if not fine}
        )
    return numbers


class Optimized:
    """A module together with the optimiser that moves it.

    Args:
        module: what is trained.
        training: optimiser, schedule and clipping.
        groups: parameter groups with their own decay; None: all parameters alike.
        peak: another peak learning rate than the config's.
    """

    def __init__(
        self,
        module: nn.Module,
        training: TokenizerTrainingConfig | PriorTrainingConfig,
        *,
        groups: ParamGroups | None = None,
        peak: float | None = None,
    ) -> None:
        self.module = module
        self.parameters = list(module.parameters())
        self.optimizer = adam(groups or self.parameters, betas=training.betas, weight_decay=training.weight_decay)
        self._training = training
        self._peak = peak

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def mean_gradients(self) -> None:
        """Average the gradients over all processes; those of a sharded module are averages already."""
        if not is_sharded(self.module):
            distributed.mean_gradients(self.parameters)

    def gradient_norm(self) -> Float[Tensor, ""]:
        """The global norm of the gradients."""
        return gradient_norm(self.parameters)

    def update(self, step: int, norm: Float[Tensor, ""]) -> float:
        """Clip gradients of this norm and move the weights; returns the learning rate."""
        clip_gradients(self.parameters, norm, self._training.gradient_clip)
        rate = learning_rate(self._training, step, peak=self._peak)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        return rate

    def state_dict(self) -> dict[str, Any]:
        """Weights, buffers and the optimiser's moments; all processes call this."""
        return whole_state(self.module, self.optimizer)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        load_whole_state(self.module, self.optimizer, state)
