"""`make bench`: every measurement; `python -m benchmarks sampling` for one."""

from __future__ import annotations

import platform
import sys

import torch

from benchmarks import orchestration, reading, sampling, tokenizer_step
from benchmarks.pairs import measure

SUITES = {
    "sampling": sampling.pairs,
    "tokenizer_step": tokenizer_step.pairs,
    "reading": reading.pairs,
    "orchestration": orchestration.pairs,
}


def main(names: list[str]) -> int:
    """Run the named suites, or all."""
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        sys.stderr.write(f"there is no benchmark {unknown[0]!r}: choose from {', '.join(SUITES)}\n")
        return 2
    sys.stdout.write(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}\n")
    for name in names or SUITES:
        for pair in SUITES[name]():
            measure(pair)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
