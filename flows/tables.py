"""How the command line prints tables and JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_OF_A_PIPE = 160


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A light table; no cell is ever wrapped in the middle of a fingerprint."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != "", overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print to stdout: as wide as the terminal, or wide enough where there is none."""
    console = Console()
    Console(width=None if console.is_terminal else WIDTH_OF_A_PIPE).print(table)


def print_json(value: Any) -> None:
    """Print JSON to stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
