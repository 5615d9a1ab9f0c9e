"""Where and in what precision a run computes: device, threads, TF32, determinism, autocast.

Policy. `fp32` means fp32: TF32 is off. `bf16` runs the networks under autocast, and what stays fp32 beside them may
use TF32; the quantizer switches it off for itself (index agreement with fp64 at K 16384: fp32 100 %, TF32 99.7 %,
bf16 92 %). On a GPU deterministic kernels are chosen where there are any, so that a resumed run repeats a straight
one.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch

from vqgan_core import distributed

Precision = Literal["fp32", "bf16"]


def resolve_device(name: str) -> torch.device:
    """The device of a name; `auto` takes a CUDA GPU, then Apple's, then the CPU.

    Of several processes on a machine each takes the GPU with its own number.

    Raises:
        ValueError: the device asked for is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        present = torch.cuda.device_count()
        index = device.index if device.index is not None else distributed.local_rank() or 0
        if index >= present:
            raise ValueError(
                f"device {name}: PyTorch sees {present} CUDA devices here; use cpu or auto, and at most "
                "one process a device"
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device mps: not available here; use cpu or auto")
    return device


def prepare(device: torch.device, *, precision: Precision = "fp32", num_threads: int | None = None) -> None:
    """Set what holds for the whole process: CPU threads, TF32 policy, deterministic kernels.

    Args:
        device: where the run computes.
        precision: of the networks; decides whether TF32 may be used.
        num_threads: CPU threads of PyTorch; None leaves them.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.backends.cuda.matmul.allow_tf32 = precision == "bf16"
    torch.backends.cudnn.allow_tf32 = precision == "bf16"
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with a fixed workspace
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a property


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """The context in which networks run: bf16 autocast, or nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
