"""What is foreseen of a stage: by hand, and against what the stage then really writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.device_rate import CPU_SHARES, GPU_SHARES, expected_rate, matmul_flops_per_second
from tasks.estimates import Estimates, Extent
from tests.tiny import Published, tiny_config
from vqgan_core.evaluation.cost import classifier_cost
from vqgan_core.prior.cost import prior_cost, sliding_cost
from vqgan_core.tokenizer.cost import tokenizer_cost

EXTENT = Extent(num_train=190, num_val=50, num_classes=10)


@pytest.fixture
def estimates(digit_folder: Path) -> Estimates:
    return Estimates(tiny_config("unused", digit_folder), EXTENT)


def test_encode_is_one_pass_for_each_image_and_view(digit_folder: Path, estimates: Estimates) -> None:
    one = tokenizer_cost(estimates.config.tokenizer.model()).encode_flops
    assert estimates.encode().flops == {"convolution": 480 * one}
    # A grid of 4×4 tokens of 4 bits, and 64 bytes of keys and checksums a row
    assert estimates.encode().bytes == 480 * (64 + 8)
    single = Estimates(tiny_config("unused", digit_folder, encode__views=["center"]), EXTENT)
    assert single.encode().flops == {"convolution": 240 * one}


def test_samples_are_drawn_with_guidance_and_decoded(digit_folder: Path, estimates: Estimates) -> None:
    prior = prior_cost(estimates.config.prior.model(), estimates.spec)
    decoder = tokenizer_cost(estimates.config.tokenizer.model()).decoder_flops
    drawing = 20 * 2 * 16 * prior.forward_flops_per_token  # 10 classes of 2; guidance runs the prior twice
    assert estimates.sample().flops == {"token drawing": drawing, "convolution": 20 * decoder}
    config = tiny_config("unused", digit_folder, prior__condition="none", sample__guidance=1.0)
    assert Estimates(config, EXTENT).sample().flops["convolution"] == 2 * decoder


def test_beams_are_drawn_and_the_likeliest_decoded(digit_folder: Path, estimates: Estimates) -> None:
    fields = {"sample__num_beams": 5, "sample__num_per_class": 2, "sample__guidance": 1.0}
    found = Estimates(tiny_config("unused", digit_folder, **fields), EXTENT).sample()
    each = prior_cost(estimates.config.prior.model(), estimates.spec).sampling_flops_per_image()
    assert found.flops["token drawing"] == 10 * 5 * each
    assert found.flops["convolution"] == estimates.sample().flops["convolution"]
    assert found.bytes == estimates.sample().bytes


def test_large_samples_are_drawn_in_windows_and_have_more_pixels(digit_folder: Path, estimates: Estimates) -> None:
    found = Estimates(tiny_config("unused", digit_folder, sample__size_px=[32, 24]), EXTENT).sample()
    each = sliding_cost(estimates.config.prior.model(), estimates.spec, (8, 6))
    assert found.flops["token drawing"] == 20 * 2 * each
    assert found.flops["convolution"] == 3 * estimates.sample().flops["convolution"]
    assert found.bytes > 1.1 * estimates.sample().bytes
    for size, words in (([12, 16], "does not fit"), ([18, 20], "multiples of the tokenizer's factor 4")):
        with pytest.raises(ValueError, match=words):
            Estimates(tiny_config("unused", digit_folder, sample__size_px=size), EXTENT).sample()


def test_evaluation_is_the_sum_of_its_groups(digit_folder: Path, estimates: Estimates) -> None:
    judge = classifier_cost(estimates.config.evaluate.classifier, 1, 10)
    prior = prior_cost(estimates.config.prior.model(), estimates.spec)
    both_ways = tokenizer_cost(estimates.config.tokenizer.model()).reconstruct_flops
    assert estimates.evaluate().flops == {
        "convolution": 50 * both_ways + 2 * (50 + 20) * judge.forward_flops,
        "transformer": 50 * 16 * prior.forward_flops_per_token,
        "convolution training": 3 * 12 * 16 * judge.forward_flops,
    }
    unlabelled = Estimates(tiny_config("unused", digit_folder, prior__condition="none"), Extent(190, 50, 0))
    assert "convolution training" not in unlabelled.evaluate().flops


@pytest.mark.parametrize(("kind", "within"), [("corpus", 2.0), ("tokens", 8.0), ("samples", 3.0)])
def test_bytes_are_of_the_order_of_what_was_written(published: Published, kind: str, within: float) -> None:
    """Tiny files are mostly headers: Parquet's footer alone outweighs the tokens of a few records."""
    manifest = published.artifacts[kind].manifest
    splits = published.artifacts["corpus"].manifest.summary["splits"]
    foreseen = Estimates(published.config, Extent(splits["train"], splits["val"], 10)).of(manifest.stage).bytes
    written = sum(entry.bytes for entry in manifest.entries())
    assert written / within < foreseen < written * within


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
