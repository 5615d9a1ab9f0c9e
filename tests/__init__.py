"""Tests; they mirror the packages.

One thread in each test and in whatever it starts: two that wait for each other, on cores that another test uses too,
take twice as long.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
