"""FSDP2: weights, gradients and moments of a model spread over processes, for models that one device cannot hold.

Each layer is gathered when it computes and dropped again; gradients are averaged as they are spread. The whole model is
gathered for checkpoints and for the best weights, on each process' CPU, by torch.distributed.checkpoint's functions for
states. What is kept is the state of a plain run, so that any number of processes, sharded or not, goes on from it.

Source: arXiv 2304.11277 (FSDP); `torch.distributed.fsdp.fully_shard`. Departure: torch.distributed.checkpoint's own
files are not used. Their metadata is a pickle, and nothing that comes from a store is unpickled here.

What only spread models need is imported where one is met: it takes most of a second of every start, and most models are
whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vqgan_core import distributed

__all__ = ["is_sharded", "load_whole_state", "shard", "whole_state", "whole_tensor", "whole_weights"]


def shard(module: nn.Module, layers: nn.ModuleList, device: torch.device, method: str) -> None:
    """Spread a model over all processes.

    Args:
        module: the model; its parameters are replaced, so an optimiser comes later.
        layers: those of its layers that are gathered one at a time.
        device: where it is.
        method: what is called in its stead: training enters the model there.
    """
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - see above
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method  # noqa: PLC0415 - see above

    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, method)


def is_sharded(module: nn.Module) -> bool:
    """Whether this process holds a part of it."""
    return any(_is_spread(parameter) for parameter in module.parameters())


def whole_tensor(values: Tensor) -> Tensor:
    """A tensor of which each process may hold a part; all processes call this."""
    if not _is_spread(values):
        return values
    whole: Tensor = values.full_tensor()  # type: ignore[attr-defined]  # a DTensor has it
    return whole


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies of weights and buffers on the CPU; called by all, given to process 0 where the module is sharded."""
    if not is_sharded(module):
        return {name: value.cpu().clone() for name, value in module.state_dict().items()}
    from torch.distributed.checkpoint import state_dict  # noqa: PLC0415 - see above

    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered: Mapping[str, Any] = state_dict.get_model_state_dict(module, options=options)
    return dict(gathered)


def whole_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of module and optimiser as of a plain run; called by all, given to process 0 where it is sharded."""
    if not is_sharded(module):
        return {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
    from torch.distributed.checkpoint import state_dict  # noqa: PLC0415 - see above

    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    named = state_dict.get_optimizer_state_dict(module, optimizer, options=options)
    return {"module": whole_weights(module), "optimizer": _numbered(named) if named else {}}


def load_whole_state(module: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Go on from `whole_state`, whoever wrote it; each process is given the whole and keeps its part."""
    if not is_sharded(module):
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        return
    from torch.distributed.checkpoint import state_dict  # noqa: PLC0415 - see above

    options = state_dict.StateDictOptions(full_state_dict=True)
    state_dict.set_model_state_dict(module, dict(state["module"]), options=options)
    named = _named(state["optimizer"], _names(module, optimizer))
    state_dict.set_optimizer_state_dict(module, optimizer, named, options=options)


def _is_spread(values: Tensor) -> bool:
    """Whether it is a DTensor, by what only a DTensor has: to name the class is to import it."""
    return hasattr(values, "full_tensor")


def _numbered(named: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's state by the number of each parameter, as PyTorch's optimisers keep it, from one by names."""
    names = [name for group in named["param_groups"] for name in group["params"]]
    number = {name: index for index, name in enumerate(names)}
    groups = [{**group, "params": [number[name] for name in group["params"]]} for group in named["param_groups"]]
    return {"state": {number[name]: values for name, values in named["state"].items()}, "param_groups": groups}


def _named(numbered: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The other way round."""
    groups = [{**group, "params": [names[index] for index in group["params"]]} for group in numbered["param_groups"]]
    return {"state": {names[index]: values for index, values in numbered["state"].items()}, "param_groups": groups}


def _names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Of an optimiser's parameters, in its order."""
    by_identity = {id(parameter): name for name, parameter in module.named_parameters()}
    return [by_identity[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
