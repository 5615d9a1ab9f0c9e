"""docs/benchmarks.md, written from what was just measured."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.pairs import REPEATS, Result

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def write(results: Sequence[Result], peaks: dict[str, float]) -> None:
    """Write the page over the old one."""
    has_peer = any(result.peer is not None for result in results)
    heads = ["work", "ours", "plain", "ratio", "range", "share of the bound", *(["peer / ours"] if has_peer else [])]
    rows = [heads, ["---"] * len(heads), *(_cells(result, has_peer) for result in results)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    PAGE.write_text(_HEADER.format(machine=machine(), peaks=_peaks(peaks), repeats=REPEATS, table=table), "utf-8")


def machine() -> str:
    """Processor or GPU, threads, versions, commit and day."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - whichever git the caller has
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    threads = torch.get_num_threads()
    return (
        f"{device}, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, commit {commit or 'unknown'}, {datetime.now(UTC):%Y-%m-%d}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _peaks(peaks: dict[str, float]) -> str:
    return ", ".join(f"{value / 1e9:,.0f} GFLOP/s {name}" for name, value in peaks.items())


def _cells(result: Result, has_peer: bool) -> list[str]:
    share = "" if result.share_of_bound is None else f"{result.share_of_bound:.0%}"
    cells = [
        result.name, f"{result.ours:,.1f} {result.unit}", f"{result.plain:,.1f} {result.unit}", f"{result.ratio:.2f} ×",
        f"{result.lowest:.2f} to {result.highest:.2f}", share,
    ]  # fmt: skip
    return [*cells, "" if result.peer is None else f"{result.peer:.2f} ×"] if has_peer else cells


_HEADER = """# Benchmarks

Written by `make bench`; not edited by hand. `python -m benchmarks NAME` measures one suite, `--peer PATH` another
checkout's models on the same work.

{machine}. A large matrix product reaches {peaks}: the bound of what is
limited by arithmetic. Sampling is limited by reading weights and cache at every step; its bound is the speed of a copy
(benchmarks/bandwidth.py).

Each row is our way and a plain one in turns, {repeats} times, on the same machine in the same run; ratios are taken
within a turn, and the median is shown. On a CPU the time is processor time. The plain way (benchmarks/plain.py) is the
same published architecture as one writes it first: eager fp32, attention as a full softmax, no cache, two autoencoder
passes a training step, images encoded in every step. Where a way of ours is bf16, that is a choice in the config
(`training.precision`, `encode.precision`), never a default.

{table}
"""
