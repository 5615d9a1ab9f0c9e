"""How the command line prints tables and JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDTH_OF_A_PIPE = 160
MIN_TEXT_WIDTH = 30
MAX_WIDTH = 1000


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A light table; no cell is ever wrapped in the middle of a fingerprint."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != "", overflow="fold", min_width=0 if column else MIN_TEXT_WIDTH)
    return table


def print_table(table: Table) -> None:
    """Print to stdout: as wide as the terminal, or wide enough where there is none; figures are never cut off."""
    console = Console()
    width = console.width if console.is_terminal else WIDTH_OF_A_PIPE
    needed = Measurement.get(console, console.options.update(width=MAX_WIDTH), table).minimum
    Console(width=max(width, needed)).print(table)


def print_json(value: Any) -> None:
    """Print JSON to stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def size_text(num_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
