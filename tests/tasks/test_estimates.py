"""What is foreseen of a stage: by hand, and against what the stage then really writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets.store import Store
from tasks.device_rate import CPU_SHARES, GPU_SHARES, expected_rate, matmul_flops_per_second
from tasks.estimates import Estimates, Extent
from tests.tiny_pipeline import tiny_config
from vqgan_core.evaluation.cost import classifier_cost
from vqgan_core.prior.cost import prior_cost
from vqgan_core.tokenizer.cost import tokenizer_cost

EXTENT = Extent(num_train=36, num_val=12, num_classes=3)


@pytest.fixture
def estimates(tiny_images: Path) -> Estimates:
    return Estimates(tiny_config("unused", tiny_images), EXTENT)


def test_encode_is_one_pass_for_each_image_and_view(tiny_images: Path, estimates: Estimates) -> None:
    one = tokenizer_cost(estimates.config.tokenizer.model()).encode_flops
    assert estimates.encode().flops == {"convolution": 48 * one}
    both = Estimates(tiny_config("unused", tiny_images, {"encode.views": ["center", "center_flip"]}), EXTENT)
    assert both.encode().flops == {"convolution": 96 * one}
    # 64 tokens of 4 bits, and 64 bytes of keys and checksums a row
    assert both.encode().bytes == 96 * (64 + 32)


def test_samples_are_drawn_with_guidance_and_decoded(tiny_images: Path, estimates: Estimates) -> None:
    prior = prior_cost(estimates.config.prior.model(), estimates.spec)
    decoder = tokenizer_cost(estimates.config.tokenizer.model()).decoder_flops
    drawing = 6 * 2 * 64 * prior.forward_flops_per_token  # 3 classes of 2; guidance runs the prior twice
    assert estimates.sample().flops == {"token drawing": drawing, "convolution": 6 * decoder}
    values = {"prior.condition": "none", "sample.guidance": 1.0}
    unconditional = Estimates(tiny_config("unused", tiny_images, values), EXTENT).sample()
    assert unconditional.flops["convolution"] == 2 * decoder


def test_evaluation_is_the_sum_of_its_groups(tiny_images: Path, estimates: Estimates) -> None:
    config = estimates.config.evaluate
    judge = classifier_cost(config.classifier, 1, 3)
    prior = prior_cost(estimates.config.prior.model(), estimates.spec)
    both_ways = tokenizer_cost(estimates.config.tokenizer.model()).reconstruct_flops
    assert estimates.evaluate().flops == {
        "convolution": 12 * both_ways + 2 * (12 + 6) * judge.forward_flops,
        "transformer": 12 * 64 * prior.forward_flops_per_token,
        "convolution training": 3 * 4 * 8 * judge.forward_flops,
    }
    lone = Estimates(tiny_config("unused", tiny_images, {"prior.condition": "none"}), Extent(36, 12, 0)).evaluate()
    assert "convolution training" not in lone.flops


@pytest.mark.parametrize(("stage", "within"), [("shard", 2.5), ("encode", 12.0), ("sample", 2.5)])
def test_bytes_are_of_the_order_of_what_was_written(
    tiny_store: Path, estimates: Estimates, stage: str, within: float
) -> None:
    """Tiny files are mostly headers: Parquet's footer alone outweighs the tokens of eight records."""
    manifest = next(found for found in Store.open(str(tiny_store)).artifacts() if found.stage == stage)
    written = sum(entry.bytes for entry in manifest.entries())
    assert written / within < estimates.of(stage).bytes < written * within


def test_every_kind_of_work_has_a_share_on_every_device() -> None:
    assert set(CPU_SHARES) == set(GPU_SHARES)
    assert all(0 < share <= 1 for shares in (CPU_SHARES, GPU_SHARES) for share in shares.values())
    assert expected_rate("token drawing", torch.device("cpu"), 100.0) == 100 * CPU_SHARES["token drawing"]
    assert expected_rate("convolution", torch.device("cuda"), 100.0) == 100 * GPU_SHARES["convolution"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_rate_is_measured_and_the_threads_are_given_back(precision: str) -> None:
    threads = torch.get_num_threads()
    rate = matmul_flops_per_second(torch.device("cpu"), precision, num_threads=1)  # type: ignore[arg-type]  # parametrised
    assert 1e8 < rate < 1e14
    assert torch.get_num_threads() == threads


@pytest.mark.gpu
def test_a_gpu_is_faster_than_its_host() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    gpu = matmul_flops_per_second(torch.device("cuda"), "fp32")
    assert gpu > matmul_flops_per_second(torch.device("cpu"), "fp32")
