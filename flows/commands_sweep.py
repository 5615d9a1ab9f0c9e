"""`tessera sweep`: try settings of sampling, and print their table."""

from __future__ import annotations

import argparse
import json

from datasets.store import ArtifactRef, Store
from flows.commands_run import config_of_options, given_of, run_flow
from flows.tables import plain_table, print_table


def sweep(options: argparse.Namespace) -> int:
    """`tessera sweep CONFIG [sweep.guidance=[1,2,3] …]`."""
    result = run_flow(options, "sweep", given_of(options))
    if options.json:
        return 0
    artifact = Store.open(config_of_options(options).store).get(ArtifactRef(**result))
    told = json.loads(artifact.read("sweep.json"))
    names = sorted({name for row in told["points"] for name in row["metrics"]})
    table = plain_table("", "guidance", "temperature", *names, "samples")
    for number, row in enumerate(told["points"]):
        values = [f"{row['metrics'][name]['value']:.4g}" if name in row["metrics"] else "" for name in names]
        mark = "best" if number == told["best"] else ""
        table.add_row(mark, f"{row['guidance']:g}", f"{row['temperature']:g}", *values, row["samples"][:12])
    print_table(table)
    return 0
