"""Items that are made ahead of their use by threads, in order.

Threads suffice: Pillow, zstd and sha256 release the GIL, and without child processes there are no forks, no copies
between processes and no state of workers to resume.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["mapped_ahead", "prefetched"]

_Given = TypeVar("_Given")
_Item = TypeVar("_Item")


def prefetched(make: Callable[[int], _Item], numbers: Iterable[int], num_threads: int) -> Iterator[_Item]:
    """Yield make(number) for each number in turn, a few ahead.

    `make` must be a pure function of its number: then neither `num_threads` nor timing can change what is yielded.
    An error is raised where its item would have come. Closing the iterator ends the threads.

    Raises:
        ValueError: fewer than one thread.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    return mapped_ahead(make, numbers, num_threads=num_threads, ahead=num_threads + 1)


def mapped_ahead(
    make: Callable[[_Given], _Item], given: Iterable[_Given], *, num_threads: int, ahead: int
) -> Iterator[_Item]:
    """Yield make(x) for each x in turn, made by threads at most `ahead` before its use, however many x there are."""
    remaining = iter(given)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="prefetch") as pool:
        pending: deque[Future[_Item]] = deque()
        try:
            pending.extend(pool.submit(make, item) for item in itertools.islice(remaining, ahead))
            while pending:
                item = pending.popleft().result()
                pending.extend(pool.submit(make, item) for item in itertools.islice(remaining, 1))
                yield item
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
