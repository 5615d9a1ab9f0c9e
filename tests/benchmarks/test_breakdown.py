"""Where time goes is told from what was done, and every kind of operation finds its place."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu

from benchmarks import page
from benchmarks.breakdown import REST, breakdown, kind_of
from benchmarks.pairs import Pair, Result, measure
from benchmarks.targets import Target

MATRIX = torch.randn(600, 600)


def multiply() -> None:
    for _ in range(10):
        gelu(MATRIX @ MATRIX)


def add_up() -> None:
    for _ in range(300):
        MATRIX + MATRIX


def python_alone() -> None:
    sum(range(2_000_000))


@pytest.mark.parametrize(
    ("work", "kind"),
    [(multiply, "products"), (add_up, "elementwise"), (python_alone, REST)],
    ids=["products", "elementwise", "Python"],
)
def test_most_of_the_time_goes_where_it_goes(work: object, kind: str) -> None:
    assert callable(work)
    shares = breakdown(work)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == kind


def test_operations_are_told_apart() -> None:
    named = {
        "aten::mm": "products", "aten::addmm": "products", "aten::baddbmm": "products", "aten::_int_mm": "products",
        "quantized::linear_dynamic_fp16": "products", "mkldnn::_linear_pointwise": "products",
        "aten::convolution_backward": "products", "aten::native_layer_norm": "norms", "aten::copy_": "moving",
        "aten::linalg_vector_norm": "optimiser", "aten::_fused_adamw_": "optimiser", "aten::gelu": "elementwise",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
        "autograd::engine::evaluate_function: AddmmBackward0": None, "AddmmBackward0": None,
    }  # fmt: skip
    assert {name: kind_of(name) for name in named} == named


def test_the_page_has_a_row_of_whatever_has_a_target() -> None:
    aimed = measure(Pair("products", "runs/s", 1, multiply, multiply, target=Target("speed", 2), repeats=2))
    other = measure(Pair("others", "runs/s", 1, add_up, add_up, repeats=2))
    assert isinstance(aimed, Result)
    assert other.parts is None
    assert aimed.parts is not None
    text = page._parts([aimed, other])
    assert "others" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| products |")]
    told = [int(cell.strip(" %")) for cell in row.split("|")[2:-1]]
    assert told == [round(100 * share) for share in aimed.parts.values()]
