"""Metrics in the terminal: each value with its interval or spread, its n, and what real images would get."""

from __future__ import annotations

import json

from rich.markup import escape

from datasets.store import Artifact
from flows.tables import plain_table, print_table
from tasks.report.wording import number, spread_of

__all__ = ["print_metrics"]


def print_metrics(evaluation: Artifact) -> None:
    """Print the metrics of an evaluation as a table."""
    table = plain_table("metric", "value", "spread", "n", "real vs. real")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in json.loads(evaluation.read("metrics.json")):
        value = f"{number(row['value'])} {row['unit']}".strip()
        floor = "" if row["floor"] is None else number(row["floor"])
        arrow = "↑" if row["higher_is_better"] else "↓"
        table.add_row(escape(f"{row['name']} {arrow}"), value, spread_of(row), f"{row['n']:,}", floor)
    print_table(table)
