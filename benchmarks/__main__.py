"""`make bench`: every measurement, and docs/benchmarks.md; `python -m benchmarks sampling` for one suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from benchmarks import page
from benchmarks.pairs import Pair, Result, measure
from benchmarks.peer import Peer, PeerError, peer_process
from benchmarks.roofline import Roofline
from benchmarks.suites import SUITES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named suites, or all.

    Args:
        arguments: of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all without it")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="another checkout, measured on the same work")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure only work with this in its name")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md; takes all suites")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.suites if name not in SUITES]:
        parser.error(f"there is no benchmark {unknown[0]!r}: choose from {', '.join(SUITES)}")
    if options.write and (options.suites or options.only):
        parser.error("--write takes everything: a page of some would look like a page of all; leave the names out")
    torch.set_num_threads(options.threads)
    roofline = Roofline.measured()
    _say(f"{page.machine()}\n{roofline.line()}\n")
    results = [result for name in options.suites or SUITES for result in _run(name, roofline, options)]
    if options.write:
        page.write(results, roofline)
    return 0


def _run(suite: str, roofline: Roofline, options: argparse.Namespace) -> Iterator[Result]:
    """All pairs of a suite."""
    peers = peer_process(options.peer, suite, options.threads) if options.peer is not None else nullcontext()
    with peers as peer:
        for index, pair in enumerate(SUITES[suite]()):
            if options.only not in pair.name:
                continue
            result = _measured(pair, index, roofline, peer)
            _say(result.line())
            yield result


def _measured(pair: Pair, index: int, roofline: Roofline, peer: Peer | None) -> Result:
    """With the peer, or without one that cannot do this work."""
    if peer is None:
        return measure(pair, roofline)
    try:
        return measure(pair, roofline, partial(peer.seconds, index))
    except PeerError as error:
        _say(f"{pair.name}: the peer cannot: {error}\n")
        return measure(pair, roofline)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
