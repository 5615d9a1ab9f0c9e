"""A place where matrix products are really fp32.

Measured on Gaussian data with K = 16384: indices from bf16 inputs agree with fp64 on 92 to 94 %, with TF32 products on
99.7 %, with fp32 on 100 %. So nearest entries are searched without autocast and without TF32, whatever the body does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

__all__ = ["full_precision"]

# PyTorch's switch belongs to the process: without the lock two threads that encode would restore each other's state.
_SWITCH = threading.Lock()


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Run without autocast and with fp32 matrix products; the previous setting comes back afterwards."""
    with _SWITCH, torch.autocast(device_type, enabled=False):
        restore = _disable_tf32()
        try:
            yield
        finally:
            restore()


def _disable_tf32() -> Callable[[], None]:
    """Switch TF32 off in the API that the process uses: PyTorch refuses to mix its old and its new one."""
    try:
        restore: Callable[[], None] = partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    except RuntimeError:
        matmul = torch.backends.cuda.matmul
        restore = partial(setattr, matmul, "fp32_precision", matmul.fp32_precision)
        matmul.fp32_precision = "ieee"
    else:
        torch.set_float32_matmul_precision("highest")
    return restore
