"""Functions that tests run in decoding children: they do what a hostile image does to its decoder."""

from __future__ import annotations

import os
import sys
import time


def abort() -> None:
    """Die as a decoder does that writes out of bounds."""
    os.abort()


def hang() -> None:
    """Never come back."""
    time.sleep(3600)


def modules() -> list[str]:
    """What this child has imported."""
    return sorted(sys.modules)


def pid() -> int:
    """Who this child is."""
    return os.getpid()
