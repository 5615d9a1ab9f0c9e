"""Processes that we start do not outlive the one that started them, however that one ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """In a child: end, with status 1, as soon as the parent has; a thread waits for that."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in children only"
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
