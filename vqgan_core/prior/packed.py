"""A network laid out for drawing, where a handful of rows at a time passes through every weight.

The copy shares everything but the linear layers with its original; these are in memory twice while it lives. Queries,
keys and values are one product.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from torch import nn

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.packed_linear import PackedLinear
from vqgan_core.prior.pixels import PixelDecoder
from vqgan_core.prior.self_attention import SelfAttention

__all__ = ["for_drawing"]

Network = TypeVar("Network", bound=nn.Module)
Pack = Callable[[Sequence[nn.Linear]], PackedLinear]


def for_drawing(
    network: Decoder | PixelDecoder, num_rows: int, config: SamplingConfig, *, compiled: bool = False
) -> Decoder | PixelDecoder:
    """A prior's network as it draws, in eval mode.

    Args:
        network: stays as it is.
        num_rows: rows of a step.
        config: says in which precision weights are.
        compiled: leave layouts to the compiler, which does not know ours.

    Raises:
        ValueError: fp16 of a convolutional prior, or of weights that it cannot hold.
    """
    if config.precision != "fp32" and not isinstance(network, Decoder):
        raise ValueError(f"precision {config.precision}: convolutional priors draw in fp32 alone; leave it fp32")
    pack = partial(PackedLinear, num_rows=None if compiled else num_rows, precision=config.precision)
    return _packed(network, pack).eval()


def _packed(module: Network, pack: Pack) -> Network:
    """A copy of the module tree with other linear layers; parameters and buffers are the original's."""
    twin, children = copy.copy(module), dict(module._modules)
    if isinstance(module, SelfAttention):
        joint = pack((module.query, module.key, module.value))
        children = {name: child for name, child in children.items() if name not in ("query", "key", "value")}
    twin._modules = {name: _packed_child(child, pack) for name, child in children.items()}
    if isinstance(twin, SelfAttention):
        twin.joint = joint
    return twin


def _packed_child(child: nn.Module | None, pack: Pack) -> nn.Module | None:
    if isinstance(child, nn.Linear):
        return pack([child])
    return None if child is None else _packed(child, pack)
