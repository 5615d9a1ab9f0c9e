"""Which weights AdamW decays (Loshchilov and Hutter 2019), as in the original: matrices of linear layers only.

Those of convolutions are matrices, too.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def is_decayed(module: nn.Module, name: str) -> bool:
    """Whether `name`, a parameter that `module` itself holds, is decayed: linear and convolution weights are."""
    return isinstance(module, nn.Linear | nn.Conv2d) and name == "weight"


def decayed_names(module: nn.Module) -> list[str]:
    """Full names of the decayed parameters; biases, norms, embeddings and positions are not among them."""
    return [
        f"{owner_name}.{name}" if owner_name else name
        for owner_name, owner in module.named_modules()
        for name, _ in owner.named_parameters(recurse=False)
        if is_decayed(owner, name)
    ]


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into a decayed and an undecayed group, each in the module's own order.

    A group without parameters is left out. A parameter that two layers share is decayed only if both would.
    """
    decayed = set(decayed_names(module))
    undecayed = {id(p) for name, p in module.named_parameters(remove_duplicate=False) if name not in decayed}
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in undecayed], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in undecayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
