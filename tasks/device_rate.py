"""How fast a device multiplies matrices, and which share of that each kind of work reaches.

The rate is measured where the plan is made. The shares for a CPU were measured with one thread, on the presets digits
and folder, on a wider tokenizer of 128 px images and on a prior of width 512; those for GPUs are assumptions, on the
careful side.

    kind of work            presets        wider networks   taken
    convolution training    0.59 to 0.62   0.82 to 0.95     0.65
    convolution             0.51 to 0.82   1.05 to 1.11     0.65
    transformer training    0.38           0.87             0.5
    transformer             0.53           0.87             0.6
    token drawing           0.04 to 0.21   0.21 to 0.49     0.2    (batches of 4 to 64 images)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch

from vqgan_core.training.precision import Precision

WorkKind = Literal["convolution training", "convolution", "transformer training", "transformer", "token drawing"]

CPU_SHARES: Mapping[WorkKind, float] = {
    "convolution training": 0.65,
    "convolution": 0.65,
    "transformer training": 0.5,
    "transformer": 0.6,
    "token drawing": 0.2,
}
GPU_SHARES: Mapping[WorkKind, float] = {
    "convolution training": 0.25,
    "convolution": 0.3,
    "transformer training": 0.4,
    "transformer": 0.4,
    "token drawing": 0.03,
}

MEASURED_SECONDS = 0.2
_SIDES = {"cpu": 1024}
_GPU_SIDE = 8192


def expected_rate(kind: WorkKind, device: torch.device, matmul_flops_per_second: float) -> float:
    """Operations a second that a kind of work can be expected to reach."""
    shares = CPU_SHARES if device.type == "cpu" else GPU_SHARES
    return shares[kind] * matmul_flops_per_second


def matmul_flops_per_second(device: torch.device, precision: Precision, num_threads: int | None = None) -> float:
    """Multiply large square matrices for a fifth of a second.

    Args:
        device: where.
        precision: fp32 (without TF32), or bf16.
        num_threads: CPU threads; None: as many as PyTorch uses now.
    """
    side = _SIDES.get(device.type, _GPU_SIDE)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with _threads(num_threads), torch.no_grad():
        matrix = torch.randn(side, side, device=device).to(dtype)
        result = _wait_for(matrix @ matrix)  # the first call picks kernels
        rounds, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < MEASURED_SECONDS:
            result = _wait_for(torch.mm(matrix, matrix, out=result))
            rounds += 1
    return 2.0 * side**3 * rounds / seconds


def _wait_for(result: torch.Tensor) -> torch.Tensor:
    result[0, 0].item()  # a device answers only when it has finished
    return result


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
