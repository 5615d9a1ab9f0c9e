"""Where everything is measured, and by which clock.

On a CPU time is processor time, which neighbours on the machine do not use up; on a GPU it is what the clock says.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], object], *, on_the_clock: bool = False) -> float:
    """Of one call.

    Args:
        work: is called.
        on_the_clock: whether to count waiting, too, for other processes, say.
    """
    clock = time.perf_counter if on_the_clock or DEVICE.type == "cuda" else time.process_time
    _finish()
    start = clock()
    work()
    _finish()
    return clock() - start


def _finish() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
