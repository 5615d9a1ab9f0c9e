"""Where the time of a call goes, by kind of operation, as PyTorch's profiler sees it.

Shares of the clock's time. On a CPU, what no operation takes is Python and the way down to the operations; on a GPU it
is a device that waits. The profiler takes time itself, mostly between operations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch.profiler import ProfilerActivity, profile

from benchmarks.device import DEVICE, seconds

REST = "between operations"
#: Kind → what is in the names of its operations; the first that fits counts.
KINDS: Mapping[str, re.Pattern[str]] = {
    "attention": re.compile("scaled_dot_product|flash_attention|efficient_attention"),
    "optimiser": re.compile("adam|foreach|vector_norm", re.IGNORECASE),
    "products": re.compile(r"mm(_|$)|::linear|convolution|mkldnn|prepack|::(mv|dot|matmul)$"),
    "norms": re.compile("norm"),
    "moving": re.compile("copy|::(cat|clone|fill_|zero_|index|gather|embedding|upsample|constant_pad|reorder)"),
    "elementwise": re.compile("::"),  # and whatever else there is, such as views
}


def breakdown(work: Callable[[], object]) -> dict[str, float]:
    """The share of each kind in one call, after another one; what is between operations comes last. They sum to 1."""
    work()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        total = seconds(work, on_the_clock=True)
    spent = dict.fromkeys(KINDS, 0.0)
    for event in profiler.key_averages():
        if (kind := kind_of(event.key)) is not None:
            microseconds = event.self_device_time_total if DEVICE.type == "cuda" else event.self_cpu_time_total
            spent[kind] += microseconds / 1e6
    shares = {kind: time / total for kind, time in spent.items()}
    return {**shares, REST: 1 - sum(shares.values())}


def kind_of(operation: str) -> str | None:
    """Of an operation such as `aten::mm`; None for what is none."""
    if "::" not in operation or operation.startswith(("autograd::", "torch::autograd")):
        return None
    return next(kind for kind, pattern in KINDS.items() if pattern.search(operation))
