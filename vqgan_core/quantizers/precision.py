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


class _Switch:
    """TF32 is off while at least one thread asks for it: PyTorch's own switch belongs to the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._restore: Callable[[], None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._restore = _disable_tf32()
            self._num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0 and self._restore is not None:
                self._restore()


_SWITCH = _Switch()


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Run without autocast and with fp32 matrix products; the previous setting comes back afterwards."""
    with _SWITCH, torch.autocast(device_type, enabled=False):
        yield


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
