"""A network laid out for drawing, where a handful of rows at a time passes through every weight.

The copy shares everything but the linear layers with its original; these are in memory twice while it lives. Queries,
keys and values are one product.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from vqgan_core.config import SamplingConfig
from vqgan_core.prior import modern, transformer
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.packed_linear import PackedLinear
from vqgan_core.prior.pixels import PixelDecoder

__all__ = ["for_drawing"]

Network = TypeVar("Network", bound=nn.Module)


def for_drawing(network: Decoder | PixelDecoder, num_rows: int, config: SamplingConfig) -> Decoder | PixelDecoder:
    """A prior's network as it draws, in eval mode.

    Args:
        network: stays as it is.
        num_rows: rows of a step.
        config: says in which precision weights are.

    Raises:
        ValueError: fp16 of a convolutional prior, or of weights that it cannot hold.
    """
    if config.precision != "fp32" and not isinstance(network, Decoder):
        raise ValueError(f"precision {config.precision}: convolutional priors draw in fp32 alone; leave it fp32")
    return _packed(network, num_rows, config.precision).eval()


def _packed(module: Network, num_rows: int, precision: str) -> Network:
    """A copy of the module tree with other linear layers; parameters and buffers are the original's."""
    twin, children = copy.copy(module), dict(module._modules)
    if isinstance(module, transformer.Attention | modern.Attention):
        joint = PackedLinear((module.query, module.key, module.value), num_rows, precision)
        children = {name: child for name, child in children.items() if name not in ("query", "key", "value")}
    twin._modules = {name: _packed_child(child, num_rows, precision) for name, child in children.items()}
    if isinstance(twin, transformer.Attention | modern.Attention):
        twin.joint = joint
    return twin


def _packed_child(child: nn.Module | None, num_rows: int, precision: str) -> nn.Module | None:
    if isinstance(child, nn.Linear):
        return PackedLinear([child], num_rows, precision)
    return None if child is None else _packed(child, num_rows, precision)
