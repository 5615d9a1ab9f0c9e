"""The vector quantizer: nearest entries in fp32, straight-through, where β goes, unit vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # lowercase `functional` imported as non-lowercase `F`
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqgan_core.config import VectorQuantizerConfig
from vqgan_core.quantizers import VectorQuantizer, vector
from vqgan_core.quantizers.precision import full_precision
from vqgan_core.quantizers.vector import nearest


def quantizer(num_entries: int = 11, width: int = 3, **config: object) -> VectorQuantizer:
    torch.manual_seed(0)
    made = VectorQuantizer(num_entries, width, VectorQuantizerConfig.model_validate(config))
    torch.nn.init.normal_(made.codebook)
    return made


def brute_force(latents: Tensor, codebook: Tensor) -> Tensor:
    return (latents.double()[:, None] - codebook.double()[None]).square().sum(-1).argmin(1)


@settings(max_examples=25, deadline=None)
@given(
    num_latents=st.integers(1, 40), num_entries=st.integers(2, 30), width=st.integers(1, 9), seed=st.integers(0, 999)
)
def test_nearest_is_the_nearest(num_latents: int, num_entries: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(num_latents, width, generator=generator)
    codebook = torch.randn(num_entries, width, generator=generator)
    assert torch.equal(nearest(latents, codebook), brute_force(latents, codebook))


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    latents, codebook = torch.randn(50, 4), torch.randn(7, 4)
    whole = nearest(latents, codebook)
    products, addmm = [], torch.addmm

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        products.append(addmm(*args, **kwargs))
        return products[-1]

    monkeypatch.setattr(torch, "addmm", counted)
    for most, num_slices in ((1, 50), (3 * 7, 17), (50 * 7, 1)):
        monkeypatch.setattr(vector, "MAX_DISTANCES", most)
        products.clear()
        assert torch.equal(nearest(latents, codebook), whole)
        assert len(products) == num_slices
        assert max(product.numel() for product in products) <= max(most, 7), "so many distances are held at once"


def test_autocast_does_not_touch_the_search() -> None:
    """With bf16 products one index in twelve would be another."""
    torch.manual_seed(0)
    latents, codebook = torch.randn(2000, 8), torch.randn(1000, 8)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.cdist(latents, codebook.bfloat16().float()).argmin(1)
        assert torch.equal(nearest(latents, codebook), brute_force(latents, codebook))
    assert not torch.equal(rounded, brute_force(latents, codebook))


def _old_api() -> Callable[[], object]:
    torch.set_float32_matmul_precision("medium")
    return torch.get_float32_matmul_precision


def _flag() -> Callable[[], object]:
    torch.backends.cuda.matmul.allow_tf32 = True
    return lambda: torch.backends.cuda.matmul.allow_tf32


def _new_api() -> Callable[[], object]:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    return lambda: torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize("switch_on", [_old_api, _flag, _new_api])
def test_tf32_is_off_inside_and_as_before_outside(switch_on: Callable[[], Callable[[], object]]) -> None:
    read = switch_on()
    try:
        before = read()
        with full_precision("cpu"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert read() == before
    finally:
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")


def test_threads_do_not_restore_tf32_under_each_other() -> None:
    torch.set_float32_matmul_precision("high")
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with full_precision("cpu"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    try:
        thread.start()
        assert inside.wait(10)
        with full_precision("cpu"):
            pass
        assert torch.get_float32_matmul_precision() == "highest", "the other thread is still inside"
        leave.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        leave.set()
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("placement", "of_latents", "of_codebook"), [("corrected", 0.3, 1.0), ("legacy", 1.0, 0.3)])
def test_beta_scales_the_term_that_it_should(placement: str, of_latents: float, of_codebook: float) -> None:
    """The original's β bug: same value, other gradients, so only gradients can tell."""
    made = quantizer(commitment_weight=0.3, beta_placement=placement)
    latents = torch.randn(2, 3, 4, 5, requires_grad=True)
    result = made(latents)
    result.loss.backward()
    difference = latents.detach() - made.decode(result.indices).detach()
    torch.testing.assert_close(result.loss.detach(), 1.3 * difference.square().mean())
    torch.testing.assert_close(latents.grad, of_latents * 2 * difference / difference.numel())
    expected = torch.zeros_like(made.codebook)
    rows = (-of_codebook * 2 * difference / difference.numel()).permute(0, 2, 3, 1).reshape(-1, 3)
    expected.index_add_(0, result.indices.flatten(), rows)
    torch.testing.assert_close(made.codebook.grad, expected)


def test_gradients_go_straight_through() -> None:
    made = quantizer()
    latents = torch.randn(1, 3, 2, 2, requires_grad=True)
    upstream = torch.randn(1, 3, 2, 2)
    result = made(latents)
    result.quantized.backward(upstream)
    assert torch.equal(latents.grad, upstream)
    assert made.codebook.grad is None
    torch.testing.assert_close(result.quantized.detach(), made.decode(result.indices).detach())


def test_encode_agrees_with_forward_and_is_row_major() -> None:
    made = quantizer()
    latents = torch.randn(2, 3, 4, 5)
    indices = made(latents).indices
    assert indices.dtype == torch.int64
    assert torch.equal(made.encode(latents), indices)
    assert int(indices[1, 2, 3]) == int(brute_force(latents[1, :, 2, 3][None], made.codebook.detach())[0])


def test_unit_vectors_ignore_length() -> None:
    made = quantizer(l2_normalize=True)
    latents = torch.randn(2, 3, 4, 4)
    result = made(latents)
    torch.testing.assert_close(result.quantized.norm(dim=1), torch.ones(2, 4, 4))
    assert torch.equal(made.encode(latents * 100), result.indices)
    cosine = F.normalize(latents, dim=1).permute(0, 2, 3, 1) @ F.normalize(made.codebook, dim=1).T
    assert torch.equal(cosine.argmax(-1), result.indices)


def test_initial_codebook() -> None:
    made = VectorQuantizer(64, 4, VectorQuantizerConfig())
    assert float(made.codebook.detach().abs().max()) <= 1 / 64
    unit = VectorQuantizer(64, 4, VectorQuantizerConfig(l2_normalize=True))
    torch.testing.assert_close(unit.codebook.detach().norm(dim=1), torch.ones(64))


def test_bf16_latents_are_searched_in_fp32() -> None:
    made = quantizer()
    latents = torch.randn(1, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = made(latents)
    assert result.loss.dtype == torch.float32
    assert result.quantized.dtype == torch.bfloat16
    assert torch.equal(result.indices, made.encode(latents.float()))
