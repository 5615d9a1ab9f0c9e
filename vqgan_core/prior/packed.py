"""A network laid out for drawing, where a handful of rows at a time passes through every weight.

Axes: R rows, I inputs, O outputs.

General matrix products are slow at that on a CPU: they lay weights out anew in each call, or read them at a fraction of
what memory delivers. oneDNN multiplies with weights that lie in its own order since the first call, and what comes out
for a row does not depend on how many rows are beside it. In bf16 there are half as many bytes to read. The head stays
fp32, because a logit rounded to bf16 moves probabilities by a percent.

The copy shares everything but the linear layers with its original; these are in memory twice while it lives.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan_core.config import SamplingConfig
from vqgan_core.prior.decoder import Decoder
from vqgan_core.prior.pixels import PixelDecoder

__all__ = ["PackedLinear", "for_drawing"]

Network = TypeVar("Network", bound=nn.Module)


class PackedLinear(nn.Module):
    """A linear layer for inference, its weights cast and, on a CPU with oneDNN, laid out for it once.

    Args:
        linear: whose weights are taken.
        num_rows: R that the layout is best for; any other number works, too.
        dtype: of the products; what is given is cast, and what comes out is of it.
    """

    def __init__(self, linear: nn.Linear, num_rows: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        weight = linear.weight.detach().to(dtype)
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self._is_packed = _packs(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows) if self._is_packed else weight

    def forward(self, x: Float[Tensor, "*R I"]) -> Float[Tensor, "*R O"]:
        """Multiply, and add the bias."""
        given = x.to(self._dtype)
        if not self._is_packed:
            return F.linear(given, self._weight, self._bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(given, self._weight, self._bias, "none", [], "")
        return out


def for_drawing(network: Decoder | PixelDecoder, num_rows: int, config: SamplingConfig) -> Decoder | PixelDecoder:
    """A prior's network as it draws, in eval mode; its caches are in the config's precision.

    Args:
        network: stays as it is.
        num_rows: rows of a step.
        config: says in which precision.

    Raises:
        ValueError: bf16 of a convolutional prior.
    """
    if config.precision == "bf16" and not isinstance(network, Decoder):
        raise ValueError("precision bf16: convolutional priors draw in fp32 alone; leave it fp32")
    dtype = torch.bfloat16 if config.precision == "bf16" else network.head.weight.dtype
    drawing = _packed(network, num_rows, dtype)
    drawing.head = PackedLinear(network.head, num_rows, network.head.weight.dtype)  # type: ignore[assignment]  # it stands for one
    if isinstance(drawing, Decoder):
        drawing.cache_dtype = dtype
    return drawing.eval()


def _packed(module: Network, num_rows: int, dtype: torch.dtype) -> Network:
    """A copy of the module tree with other linear layers; parameters and buffers are the original's."""
    twin = copy.copy(module)
    twin._modules = {
        name: PackedLinear(child, num_rows, dtype) if isinstance(child, nn.Linear)
        else None if child is None else _packed(child, num_rows, dtype)
        for name, child in module._modules.items()
    }  # fmt: skip
    return twin


def _packs(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    supported = {torch.float32: True, torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported()}
    return bool(supported.get(weight.dtype, False))
