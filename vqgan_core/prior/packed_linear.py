"""Linear layers for inference, their weights laid out once for kernels that take few rows at a time.

Axes: R rows, I inputs, O outputs.

General matrix products are slow with few rows on a CPU: each call lays weights out anew, or reads them at a fraction of
what memory delivers. Here they lie in the order of oneDNN's kernels in fp32, and of FBGEMM's for weights of 16 bits
(docs/log.md has the figures). What comes out for a row does not depend on how many rows are beside it.

`fp16` is a precision of weights: they are rounded to 11 significant bits, which is 8 times finer than bf16, and half as
many bytes are read. What they are multiplied with and summed up to is fp32, but for a GPU, where that is rounded, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PackedLinear", "side_by_side"]

_LARGEST = torch.finfo(torch.float16).max


class PackedLinear(nn.Module):
    """Linear layers with the same inputs, for inference, as one product.

    Args:
        layers: whose weights are taken; what comes out of them stands side by side.
        num_rows: R that the layout is best for; any other number works, too. None: PyTorch's own layout.
        precision: of the weights: fp32 or fp16.

    Raises:
        ValueError: a weight that fp16 cannot hold.
    """

    def __init__(self, layers: Sequence[nn.Linear], num_rows: int | None, precision: str) -> None:
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        """Outputs of each layer."""
        with torch.no_grad():
            weight, bias = _joined(layers)
        if precision == "fp32":
            self._product = _of_fp32(weight, bias, num_rows)
        elif weight.abs().max() <= _LARGEST:  # false of NaN, too
            self._product = _of_fp16(weight, bias, num_rows)
        else:
            raise ValueError(f"precision fp16 holds no weight beyond ±{_LARGEST:.0f}, and this prior has one: use fp32")

    def forward(self, x: Float[Tensor, "*R I"]) -> Float[Tensor, "*R O"]:
        """Multiply, and add the bias."""
        return self._product(x)


def side_by_side(x: Float[Tensor, "*R I"], layers: Sequence[nn.Linear]) -> Sequence[Float[Tensor, "*R O"]]:
    """What linear layers make of the same input, as one product with a gradient: fewer and larger ones are faster."""
    weight, bias = _joined(layers)
    return torch.split(F.linear(x, weight, bias), [layer.out_features for layer in layers], dim=-1)


def _joined(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Weights and biases, one layer's after the other's."""
    weights: list[Tensor] = [layer.weight for layer in layers]
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    assert len(biases) in (0, len(layers)), "all have a bias, or none"
    return torch.cat(weights), torch.cat(biases) if biases else None


def _of_fp32(weight: Tensor, bias: Tensor | None, num_rows: int | None) -> Callable[[Tensor], Tensor]:
    on_cpu = weight.dtype == torch.float32 and weight.device.type == "cpu"
    if num_rows is None or not on_cpu or not _has_onednn():
        return partial(F.linear, weight=weight, bias=bias)
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x.float(), laid_out, bias, "none", [], "")


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # it has no annotations


def _of_fp16(weight: Tensor, bias: Tensor | None, num_rows: int | None) -> Callable[[Tensor], Tensor]:
    if weight.device.type != "cpu":
        half, half_bias = weight.half(), None if bias is None else bias.half()
        return lambda x: F.linear(x.half(), half, half_bias).to(x.dtype)
    if num_rows is None or torch.backends.quantized.engine not in ("x86", "fbgemm"):
        return partial(F.linear, weight=weight.half().to(weight.dtype), bias=bias)  # the same numbers, not faster
    laid_out = torch.ops.quantized.linear_prepack_fp16(weight.float(), None if bias is None else bias.float())
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x.float(), laid_out)
