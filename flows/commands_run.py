"""The commands that compute: `run`, one command a stage, and `plan`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from typing import Any

from datasets.store import ArtifactRef, Manifest, Store
from flows.local_server import local_server
from flows.metric_table import print_metrics
from flows.tables import plain_table, print_json, print_table
from tasks.config import PipelineConfig
from vqgan_core.config import ConfigError
from vqgan_core.config.base import parse_override

FINGERPRINT_LENGTH = 64


def run(options: argparse.Namespace) -> int:
    """`tessera run CONFIG [key=value …]`."""
    run_flow(options, "end_to_end", {})
    return 0


def run_stage(options: argparse.Namespace) -> int:
    """`tessera STAGE CONFIG [key=value …] [--corpus FINGERPRINT …]`."""
    run_flow(options, options.stage, given_of(options))
    return 0


def given_of(options: argparse.Namespace) -> dict[str, str]:
    """The artifacts that a command was told to read."""
    kinds = ("corpus", "tokenizer", "tokens", "prior", "samples", "evaluation", "top_prior", "condition_tokenizer")
    return {kind: getattr(options, kind) for kind in kinds if getattr(options, kind, None)}


def plan(options: argparse.Namespace) -> int:
    """`tessera plan CONFIG [key=value …]`: what is cached, what would run, and what it would cost."""
    if options.images is not None:
        return _plan_scale(options)
    from tasks.planning import plan_rows  # noqa: PLC0415 - imports torch

    rows = plan_rows(config_of_options(options))
    if options.json:
        print_json(rows)
        return 0
    table = plain_table("stage", "state", "fingerprint", "parameters", "PFLOP", "hours", "GB", "")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in row))
    print_table(table)
    sys.stdout.write(_in_all(rows) + "\n")
    return 0


def _plan_scale(options: argparse.Namespace) -> int:
    """`tessera plan CONFIG --images [N …]`: requests, GB and hours of corpora of that size; no source is looked at."""
    from tasks.scale import LADDER, measure_costs, scale_rows  # noqa: PLC0415 - imports torch

    if any(count < 1 for count in options.images):
        raise ConfigError(f"--images takes numbers of images, got {' '.join(map(str, options.images))}")
    config = config_of_options(options)
    costs = measure_costs(config)
    rows = scale_rows(config, tuple(options.images) or LADDER, costs)
    if options.json:
        print_json({"costs": dataclasses.asdict(costs), "rows": rows})
        return 0
    table = plain_table(*rows[0])
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    print_table(table)
    figures = (
        f"{1e6 * costs.list_seconds:.0f} µs to list, {1e3 * costs.ingest_seconds:.1f} ms to decode and store and "
        f"{1e6 * costs.index_seconds:.0f} µs to index on one core, {1e3 * costs.encode_seconds:.2g} ms to encode on "
    )
    sys.stdout.write(f"measured here, an image: {figures}{costs.device}; see docs/scale.md\n")
    return 0


def _in_all(rows: list[dict[str, Any]]) -> str:
    sums = {name: sum(row[name] for row in rows if row[name] is not None) for name in ("PFLOP", "hours", "GB")}
    unknown = [row["stage"] for row in rows if row["hours"] is None]
    text = ", ".join(f"{value:.3g} {name}" for name, value in sums.items())
    return f"in all: {text}" + (f", and the hours of {' and '.join(unknown)}" if unknown else "")


def overrides_of(options: argparse.Namespace) -> dict[str, Any]:
    """The command line's overrides, with --store and TESSERA_STORE in their place."""
    values = dict(map(parse_override, options.overrides))
    url = options.store or (None if "store.url" in values else os.environ.get("TESSERA_STORE"))
    return values | ({"store.url": url} if url else {})


def config_of_options(options: argparse.Namespace) -> PipelineConfig:
    """The config that a command was given."""
    return PipelineConfig.preset(options.config, overrides_of(options))


def run_flow(
    options: argparse.Namespace, name: str, given: dict[str, str], config: PipelineConfig | None = None
) -> dict[str, Any]:
    """Run a flow by name, say what became of its stages, and return the reference of its last artifact."""
    config = config or config_of_options(options)  # a wrong config is told before anything is started
    with local_server(debug=options.debug):
        import importlib  # noqa: PLC0415 - after the server's environment is set

        from flows.run import Ledger, current_ledger  # noqa: PLC0415 - imports Prefect
        from tasks.progress import Terminal  # noqa: PLC0415

        flow = getattr(importlib.import_module(f"flows.{name}"), name)
        ledger = Ledger(Terminal())
        token = current_ledger.set(ledger)
        try:
            result: dict[str, Any] = flow(preset=options.config, **given, overrides=overrides_of(options))
        finally:
            current_ledger.reset(token)
    store = Store.open(config.store)
    rows = [_row(stage, state, store.get(ref).manifest) for stage, state, ref in ledger.outcomes]
    if options.json:
        print_json({"result": result, "stages": rows})
        return result
    _print_summary(config.name, rows)
    last = store.get(ArtifactRef(**result))
    if last.manifest.kind == "evaluation":
        print_metrics(last)
    if any(entry.path == "report.html" for entry in last.manifest.views):
        sys.stdout.write(f"report: {result['uri']}/report.html\n")
    return result


def _row(stage: str, state: str, manifest: Manifest) -> dict[str, Any]:
    headline = manifest.summary.get("headline", "")
    seconds = manifest.cost.seconds
    return {
        "stage": stage,
        "state": state,
        "fingerprint": manifest.fingerprint,
        "digest": manifest.digest,
        "seconds": seconds,
        "summary": headline,
    }


def _print_summary(name: str, rows: list[dict[str, Any]]) -> None:
    table = plain_table("stage", "state", "fingerprint", "built in", "", title=name)
    for row in rows:
        style = "green" if row["state"] == "Cached" else ""
        table.add_row(
            row["stage"], f"[{style}]{row['state']}[/]" if style else row["state"], row["fingerprint"][:12],
            f"{row['seconds']:.0f} s", row["summary"],
        )  # fmt: skip
    print_table(table)


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    text = "" if value is None else str(value)
    return text[:12] if len(text) == FINGERPRINT_LENGTH and " " not in text else text
