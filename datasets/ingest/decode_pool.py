"""Child processes that decode images which nobody has checked: a file that kills or hangs its decoder costs one image.

Children start by forkserver where there is one, else by spawn: a fork of a process with threads, CUDA or s3fs breaks.
They end when their parent is gone, whichever way it went.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

import pebble

from datasets.config import ShardExecution
from datasets.errors import IngestError
from datasets.ingest.canonical import CanonicalImage, Recipe, Unusable, canonicalize, describe

__all__ = ["DecodePool", "default_num_processes"]


class DecodePool:
    """Decodes images in child processes; use it as a context manager, for as many units as there are."""

    def __init__(self, execution: ShardExecution) -> None:
        """Start nothing yet: children come with the first image."""
        self._timeout_seconds = execution.decode_timeout_seconds
        self.num_processes = execution.num_processes or default_num_processes()
        self._context = _context()
        self._tried = False
        # Any: pebble's own methods are not annotated.
        self._pool: Any = pebble.ProcessPool(
            max_workers=self.num_processes, initializer=_prepare_child, context=self._context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def decode(self, data: bytes, name: str, recipe: Recipe) -> Future[CanonicalImage]:
        """Start decoding an image; ask `outcome` what became of it."""
        return self.call(canonicalize, data, name, recipe)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run any importable function in a child, under the same time limit.

        Raises:
            IngestError: no child can start, since the script that runs this runs in every child, too.
        """
        if not self._tried:
            _try_a_child(self._context)
            self._tried = True
        future: Future[Any] = self._pool.schedule(function, args=arguments, timeout=self._timeout_seconds)
        return future

    def outcome(self, future: Future[CanonicalImage]) -> CanonicalImage | Unusable:
        """Wait for an image. Nothing that a file does to its decoder is raised here: it is a reason to leave it out."""
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, Unusable):
            return error
        if isinstance(error, FutureTimeout):
            return Unusable("timeout", f"decoding took over {self._timeout_seconds:g} s")
        if isinstance(error, pebble.ProcessExpired):
            return Unusable("crash", f"the decoder died with exit code {error.exitcode}")
        return Unusable("undecodable", describe(error))


def default_num_processes() -> int:
    """One a core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _context() -> Any:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # Not our own modules: the server does not have our sys.path, and `datasets` there may be someone else's.
        context.set_forkserver_preload(["numpy", "PIL.Image", "PIL.ImageCms", "pebble", "pydantic"])
    return context


def _try_a_child(context: Any) -> None:
    """Start one child by itself and look at its end.

    A child imports its parent's script first. One that starts the pipeline there ends, and the pool would start another
    for ever.
    """
    child = context.Process(target=_nothing)
    child.start()
    child.join()
    if child.exitcode:
        raise IngestError(
            f"images are decoded in child processes, and a child ended with exit code {child.exitcode} before it could "
            'begin: put what your script calls under `if __name__ == "__main__":`, since each child imports the script'
        )


def _nothing() -> None:
    """What a child does that is only there to show that it can start."""


def _prepare_child() -> None:
    """No core dumps of crashes, and no orphan: a thread waits for the end of the parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in children only"
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
