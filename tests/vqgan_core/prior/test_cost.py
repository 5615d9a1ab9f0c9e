"""The cost of a prior equals what building and running one shows."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vqgan_core.config import PRIOR_SIZES, ConfigError, PriorConfig, SamplingConfig, TokenSpec, sized_prior
from vqgan_core.prior import Prior, sample_large
from vqgan_core.prior.cost import prior_cost, sliding_cost

CONFIG = PriorConfig(num_layers=3, num_heads=4, width=64)
SPEC = TokenSpec(codebook_size=100, height=4, width=6, num_classes=7)


def test_parameters_are_those_of_the_built_prior() -> None:
    cost = prior_cost(CONFIG, SPEC)
    assert cost.num_parameters == sum(parameter.numel() for parameter in Prior(CONFIG, SPEC).parameters())
    # Per layer 4·D² of attention and 8·D² of the perceptron, and the head.
    assert cost.num_matrix_parameters == 3 * 12 * 64**2 + 100 * 64


def test_operations_are_those_that_torch_counts() -> None:
    """Torch counts every key for every query; causal attention needs (N + 1) / 2 of N."""
    cost, prior = prior_cost(CONFIG, SPEC), Prior(CONFIG, SPEC)
    with FlopCounterMode(display=False) as counter:
        prior.nll(torch.zeros(1, 24, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)).mean().backward()
    counts = {str(operation): count for operation, count in counter.get_flop_counts()["Global"].items()}
    matrices = sum(count for operation, count in counts.items() if "mm" in operation and "bmm" not in operation)
    assert matrices == 24 * 6 * cost.num_matrix_parameters
    attention = cost.training_flops_per_image - matrices
    assert attention == 3 * 24 * 3 * 4 * 64 * 25 / 2
    assert cost.training_flops_per_token == pytest.approx(6 * cost.num_matrix_parameters + 3 * 3 * 4 * 64 * 25 / 2)


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
@pytest.mark.parametrize("name", PRIOR_SIZES)
def test_named_sizes_have_the_parameters_that_they_say(name: str, architecture: str) -> None:
    config = sized_prior(name, architecture=architecture, condition="none")
    number = float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]
    spec = TokenSpec(codebook_size=512 if number < 5e7 else 16384, height=16, width=16)
    assert prior_cost(config, spec).num_parameters == pytest.approx(number, rel=0.05)


def test_a_size_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the prior of size 3b: .*there is no prior of size '3b': choose one of 1m"):
        sized_prior("3b")
    assert sized_prior("5m", num_layers=2).num_layers == 2


def test_guidance_doubles_the_cost_of_sampling() -> None:
    cost = prior_cost(CONFIG, SPEC)
    assert cost.sampling_flops_per_image(2.0) == 2 * cost.sampling_flops_per_image()
    assert cost.sampling_flops_per_image() == 24 * cost.forward_flops_per_token


def test_the_largest_published_prior_is_counted_without_memory() -> None:
    config = PriorConfig(num_layers=48, num_heads=24, width=1536)
    cost = prior_cost(config, TokenSpec(codebook_size=16384, height=16, width=16, num_classes=1000))
    # 1,410,640,896 in the original, which has no table of 1000 classes and the null row.
    assert cost.num_parameters == 1_410_640_896 + 1001 * 1536


@pytest.mark.parametrize("architecture", ["gpt", "modern"])
@pytest.mark.parametrize("grid", [(4, 6), (4, 9), (7, 6), (6, 11)])
def test_windows_cost_what_they_read(architecture: str, grid: tuple[int, int]) -> None:
    """Every element that the layers see is counted once, those of a window that moved once more."""
    config = CONFIG.model_copy(update={"architecture": architecture})
    cost, prior, seen = prior_cost(config, SPEC), Prior(config, SPEC).eval(), []
    prior.transformer.dropout.register_forward_hook(lambda _module, _given, x: seen.append(x.shape[1]))
    sample_large(prior, torch.zeros(1, dtype=torch.int64), [0], SamplingConfig(), grid)
    matrices = sum(seen) * cost.position.matrices + grid[0] * grid[1] * cost.position.head
    pasts, length = [], 0
    for count in seen:  # a chunk of one goes on, any other one begins anew
        length = length + 1 if count == 1 and length else count
        pasts.append(count * (2 * length - count + 1) / 2)
    assert sliding_cost(config, SPEC, grid) == matrices + sum(pasts) * cost.position.key
    if grid == (4, 6):
        assert sliding_cost(config, SPEC, grid) == cost.sampling_flops_per_image()
