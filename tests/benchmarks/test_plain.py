"""The plain baseline is the same architecture: as many parameters, and with our weights the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import coding, prior_step
from benchmarks.pairs import Pair, measure
from benchmarks.plain import PlainPrior, PlainTokenizer
from vqgan_core.config import PriorConfig, TokenizerConfig, TokenSpec
from vqgan_core.prior import Prior
from vqgan_core.tokenizer import Tokenizer


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_tokenizers_are_alike() -> None:
    with torch.device("meta"):
        ours = Tokenizer(TokenizerConfig.model_validate(coding.CONFIG))
        plain = PlainTokenizer(*coding.PLAIN)
    assert num_parameters(ours) == num_parameters(plain)
    shapes = [sorted(tuple(p.shape) for p in module.parameters()) for module in (ours, plain)]
    assert shapes[0] == shapes[1]


def test_the_priors_are_alike() -> None:
    spec = TokenSpec(codebook_size=prior_step.ENTRIES, height=16, width=16, num_classes=prior_step.CLASSES)
    told = {"num_layers": prior_step.LAYERS, "num_heads": prior_step.HEADS, "width": prior_step.WIDTH}
    with torch.device("meta"):
        ours = Prior(PriorConfig.model_validate(told), spec)
        plain = PlainPrior(prior_step.ENTRIES, prior_step.CLASSES, 256, *told.values())
    # Ours has one class more, which says that none is given.
    assert num_parameters(ours) - num_parameters(plain) == prior_step.WIDTH


def test_a_ratio_is_that_of_the_work() -> None:
    matrix = torch.randn(160, 160)

    def once() -> None:
        for _ in range(40):
            matrix @ matrix

    def thrice() -> None:
        for _ in range(3):
            once()

    pair = Pair("products", "products/s", 40, once, thrice, flops=40 * 2 * 160**3)
    result = measure(pair, peak=1e15, repeats=3)
    assert 1.5 < result.ratio < 6
    assert result.lowest <= result.ratio <= result.highest
    assert result.share_of_bound == pytest.approx(pair.flops * result.ours / pair.count / 1e15)
    assert "products/s" in result.line()
