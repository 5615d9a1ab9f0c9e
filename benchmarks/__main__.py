"""`make bench`: every measurement, and docs/benchmarks.md; `python -m benchmarks sampling` for one suite."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks import page
from benchmarks.pairs import Result, measure, peak_flops
from benchmarks.peer import peer_process
from benchmarks.suites import SUITES

FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> int:
    """Run the named suites, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all without it")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="another checkout, measured on the same work")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}: choose from {', '.join(SUITES)}")
    torch.set_num_threads(options.threads)
    peaks = {name: peak_flops(dtype) for name, dtype in FLOATS.items()}
    sys.stdout.write(page.machine() + "\n")
    results = [result for name in options.suites or SUITES for result in run(name, peaks, options)]
    if options.write:
        page.write(results, peaks)
    return 0


def run(suite: str, peaks: dict[str, float], options: argparse.Namespace) -> list[Result]:
    """All pairs of a suite."""
    results = []
    for index, pair in enumerate(SUITES[suite]()):
        with ExitStack() as stack:
            peer = None
            if options.peer is not None:
                peer = stack.enter_context(peer_process(options.peer, suite, index, options.threads))
            results.append(measure(pair, peaks[pair.precision], peer))
        sys.stdout.write(results[-1].line())
        sys.stdout.flush()
    return results


if __name__ == "__main__":
    sys.exit(main())
