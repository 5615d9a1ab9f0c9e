"""docs/benchmarks.md, written from what was just measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.device import DEVICE
from benchmarks.pairs import Result
from benchmarks.roofline import Roofline

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def write(results: Sequence[Result], roofline: Roofline) -> None:
    """Write the page over the old one."""
    PAGE.write_text(rendered(results, roofline), "utf-8")


def rendered(results: Sequence[Result], roofline: Roofline) -> str:
    """The page."""
    has_peer = any(result.peer is not None for result in results)
    return _TEMPLATE.format(
        machine=machine(), command=_command(), load=_load(), roofline=roofline.line(), targets=_targets(results),
        parts=_parts(results), table=_table([result for result in results if not result.pair.per], has_peer),
        costs=_costs(results),
        other_device=_OTHER_DEVICE if DEVICE.type == "cpu" else "",
    )  # fmt: skip


def machine() -> str:
    """Processor or GPU, threads, versions, commit and day."""
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else _processor()
    threads = torch.get_num_threads()
    return (
        f"{device}, {os.cpu_count()} cores of which {threads} used, torch {torch.__version__}, Python "
        f"{platform.python_version()}, commit {_commit()}, {datetime.now(UTC):%Y-%m-%d}"
    )


def _commit() -> str:
    said = [_git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--", "*.py")]
    return (said[0] or "unknown") + (" with changes" if said[1] else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607 - whichever git the caller has
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _command() -> str:
    options = [part if part[:1] == "-" or part.isdigit() else "PATH" for part in sys.argv[1:]]
    return " ".join(["python -m benchmarks", *options])


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _targets(results: Sequence[Result]) -> str:
    rows = [["work", "wanted", "measured", "by", "reached"], ["---"] * 5]
    aimed = [(result.pair.target.name, result) for result in results if result.pair.target is not None]
    names = dict.fromkeys(name for name, _ in aimed)
    return _as_table([*rows, *(_target_row([result for own, result in aimed if own == name]) for name in names)])


def _target_row(results: Sequence[Result]) -> list[str]:
    """The best row of a target, and, where it is not enough, what bounds it."""
    target = results[0].pair.target
    assert target is not None
    best = max(results, key=lambda r: r.ratio if target.ratio is not None else r.share or 0.0)
    if target.ratio is not None:
        measured, reached = f"{best.ratio:.2f} ×", best.ratio >= target.ratio
    else:
        assert target.share is not None
        assert best.share is not None
        measured, reached = f"{best.share:.0%}", best.share >= target.share
    return [target.name, target.wanted, measured, best.pair.name, "yes" if reached else f"no: {_bound(best)}"]


def _bound(result: Result) -> str:
    if result.share is None:
        return "what the machine allows is not known"
    return (
        f"it runs at {result.share:.0%} of what {result.limit} allow{'s' if result.limit == 'memory' else ''}; at all "
        f"of that the ratio would be {result.ratio / result.share:.1f} ×"
    )


def _parts(results: Sequence[Result]) -> str:
    """Where our time goes, of whatever has a target."""
    broken_down = [(result.pair.name, result.parts) for result in results if result.parts is not None]
    kinds = list(dict.fromkeys(kind for _, parts in broken_down for kind in parts))
    rows = [["work", *kinds], ["---"] * (1 + len(kinds))]
    return _as_table([*rows, *([name, *(f"{parts[kind]:.0%}" for kind in kinds)] for name, parts in broken_down)])


def _table(results: Sequence[Result], has_peer: bool) -> str:
    heads = [
        "work",
        "ours",
        "plain",
        "ratio",
        "quartiles",
        "share of the bound",
        *(["peer / ours"] if has_peer else []),
    ]
    return _as_table([heads, ["---"] * len(heads), *(_cells(result, has_peer) for result in results)])


def _cells(result: Result, has_peer: bool) -> list[str]:
    unit, (low, high) = result.pair.unit, result.quartiles
    share = "" if result.share is None else f"{result.share:.0%} of {result.limit}"
    cells = [
        result.pair.name, f"{result.ours:,.1f} {unit}", f"{result.plain:,.1f} {unit}", f"{result.ratio:.2f} ×",
        f"{low:.2f} to {high:.2f}", share,
    ]  # fmt: skip
    return [*cells, "" if result.peer is None else f"{result.peer:.2f} ×"] if has_peer else cells


def _costs(results: Sequence[Result]) -> str:
    """Of what is done around the work."""
    rows = [["work", "with Prefect", "without", "more", "quartiles"], ["---"] * 5]
    for result in (result for result in results if result.pair.per):
        low, middle, high = result.excess
        done, plain = (f"{value:,.1f} {result.pair.unit}" for value in (result.ours, result.plain))
        rows.append([result.pair.name, done, plain, f"{middle:.1f} ms a {result.pair.per}", f"{low:.1f} to {high:.1f}"])
    return _as_table(rows)


def _as_table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


_OTHER_DEVICE = """
The targets for a GPU (encode ≥ 4 ×, sampling ≥ 10 ×, prior training at ≥ 45 % of bf16 peak) were not measured: there
was none. The same command measures them where there is one.
"""

_TEMPLATE = """# Benchmarks

Written by `make bench`; not edited by hand. `python -m benchmarks NAME` measures one suite, `--peer PATH` another
checkout's models on the same work.

{machine}; `{command}`; load of the machine at the end {load}.

Roofline of the same run: {roofline}.

## Targets

{targets}
{other_device}
A target is reached by the best of the rows that name it. Where that is bf16 or fp16, it is a choice in the config
(`training.precision`, `encode.precision`, `sample.precision`), never a default.

## Where our time goes

{parts}

Shares of one call under PyTorch's profiler (benchmarks/breakdown.py). Products are matrix products and convolutions;
moving is copies, casts and lookups; elementwise is all other operations; between them there is Python.

## What Prefect costs

{costs}

The cached pipeline is a Prefect flow, against plain calls of the same stages. Shards of a fan-out do nothing, so that
what is left is handing them out, to two workers, and their states in the server's database, against a loop; clusters
are running already.

## Everything

{table}

Each row is our way and a plain one in turns, five times (sampling of 256 tokens: three times), on the same machine in
the same run, after one turn that does not count. Ratios are taken within a turn; shown are the median and the
quartiles, between which half of the turns lie. Time is the processor's, not the clock's, but for what waits for other
processes (what Prefect costs, sharding) and on a GPU.

The plain way (benchmarks/plain.py) is the same published architecture as one writes it first: eager fp32, attention as
a full softmax, no cache or one that is concatenated at each step, two autoencoder passes a training step. Readers are
set against decoding the same files in a loop; tokens against encoding the images in every step. The bound is the larger
of operations / matrix products and bytes / copy; what a row has to compute and read is counted from the model
(`tokenizer_cost`, `prior_cost`, benchmarks/sampling.py).
"""
