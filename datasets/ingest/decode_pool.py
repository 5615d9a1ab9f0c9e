"""Child processes that decode images which nobody has checked: a file that kills or hangs its decoder costs one image.

Children start by forkserver where there is one, else by spawn: a fork of a process with threads, CUDA or s3fs breaks.
They end when their parent is gone, whichever way it went.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pebble

from datasets.children import end_with_parent
from datasets.config import ShardExecution
from datasets.errors import IngestError
from datasets.ingest.canonical import CanonicalImage, Recipe, canonicalize
from datasets.ingest.unusable import Unusable, describe

__all__ = ["Call", "DecodePool", "default_num_processes"]

_FRESH_POOLS = 3
_LOOK_SECONDS = 1.0


@dataclass
class Call:
    """Something that a child was asked to do."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    pool: Any = None
    future: Future[Any] = field(default_factory=Future)


class DecodePool:
    """Decodes images in child processes; use it as a context manager, for as many units as there are.

    A pool breaks where a child dies before it was noted what it worked on (pebble calls that "All workers expired").
    That says nothing about any image: a fresh pool takes all that was not done. Only what breaks a pool of its own is
    to blame.
    """

    def __init__(self, execution: ShardExecution) -> None:
        """Start nothing yet: children come with the first image."""
        self._timeout_seconds = execution.decode_timeout_seconds
        self.num_processes = execution.num_processes or default_num_processes()
        self._context = _context()
        self._tried = False
        self._refusal: str | None = None
        self._closed = False
        self._mutex = threading.Lock()
        self._pool = self._new_pool(self.num_processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._mutex:  # a thread that still reads ahead must neither end this pool, too, nor begin another
            self._closed = True
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()

    def decode(
        self, data: bytes, name: str, recipe: Recipe, partners: Mapping[str, tuple[str, bytes]] | None = None
    ) -> Call:
        """Start decoding an image and its second files; ask `outcome` what became of it."""
        return self.call(canonicalize, data, name, recipe, partners or {})

    def call(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Run any importable function in a child, under the same time limit.

        Raises:
            IngestError: no child can start, since the script that runs this runs in every child, too.
            RuntimeError: the pool was left.
        """
        call = Call(function, arguments)
        self._start(call)
        return call

    def result(self, call: Call) -> Any:
        """Wait for what a child returned; whatever it raised is raised here."""
        for _ in range(_FRESH_POOLS):
            if not self._is_lost(call):
                return call.future.result()
            self._start(call)
        return self._result_alone(call)

    def outcome(self, call: Call) -> CanonicalImage | Unusable:
        """Wait for an image. Nothing that a file does to its decoder is raised here: it is a reason to leave it out."""
        try:
            image: CanonicalImage = self.result(call)
        except Unusable as reason:
            return reason
        except FutureTimeout:
            return Unusable("timeout", f"decoding took over {self._timeout_seconds:g} s")
        except pebble.ProcessExpired as error:
            return Unusable("crash", f"the decoder died with exit code {error.exitcode}")
        except BrokenProcessPool:
            return Unusable("crash", "the decoder died")
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything, and all of it is about its image
            return Unusable("undecodable", describe(error))
        return image

    def _start(self, call: Call) -> None:
        with self._mutex:
            if self._closed:
                raise RuntimeError("this decode pool was left: nothing more can be decoded in it")
            if not self._tried:
                self._tried, self._refusal = True, _why_no_child_starts(self._context)
            if self._refusal is not None:  # threads that read ahead are told, too, without trying again
                raise IngestError(self._refusal)
            if _is_broken(self._pool):
                self._pool.join()
                self._pool = self._new_pool(self.num_processes)
            self._schedule(call, self._pool)

    def _schedule(self, call: Call, pool: Any) -> None:
        call.pool = pool
        try:
            call.future = pool.schedule(call.function, args=call.arguments, timeout=self._timeout_seconds)
        except RuntimeError:  # it broke a moment ago; `result` sees that, too
            assert _is_broken(pool), "nobody else closes it"
            call.future = Future()

    def _is_lost(self, call: Call) -> bool:
        """Wait until a call is done (False), or its pool broke (True). A broken pool forgets what it had not begun."""
        while True:
            try:
                return isinstance(call.future.exception(timeout=_LOOK_SECONDS), BrokenProcessPool)
            except FutureTimeout:
                if not call.future.done() and _is_broken(call.pool):
                    return True

    def _result_alone(self, call: Call) -> Any:
        """Run a call in a pool of its own: what breaks now is its own doing."""
        pool = self._new_pool(1)
        self._schedule(call, pool)
        lost = self._is_lost(call)
        pool.stop()
        pool.join()
        if lost:
            raise BrokenProcessPool(f"{call.function.__name__} killed its process")
        return call.future.result()

    def _new_pool(self, num_processes: int) -> Any:  # pebble's own methods are not annotated
        return pebble.ProcessPool(max_workers=num_processes, initializer=_prepare_child, context=self._context)


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


def _is_broken(pool: Any) -> bool:
    """Whether a pool gave up by itself; one that has not begun yet begins by being asked."""
    return not pool.active


def _why_no_child_starts(context: Any) -> str | None:
    """Start one child by itself and look at its end; None: it was as it should be.

    A child imports its parent's script first. One that starts the pipeline there ends, and the pool would start another
    for ever.
    """
    child = context.Process(target=_nothing)
    child.start()
    child.join()
    if child.exitcode != 1:  # an exception; whatever else ends a child now and then is for the pool to bear
        return None
    return (
        "images are decoded in child processes, and a child failed before it could begin: put what your script "
        'calls under `if __name__ == "__main__":`, since each child imports the script'
    )


def _nothing() -> None:
    """What a child does that is only there to show that it can start."""


def _prepare_child() -> None:
    """No core dumps of crashes, and no orphan."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    end_with_parent()
