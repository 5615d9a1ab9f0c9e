"""The commands of pointers: `promote` and `current`."""

from __future__ import annotations

import argparse
import sys

from datasets.store import Artifact, Store
from datasets.store.lineage import find_artifact
from datasets.store.pointers import Pointed, history, names, promote
from datasets.store.pointers import current as newest
from flows.stores import store_of
from flows.tables import plain_table, print_json, print_table
from tasks.config import PipelineConfig
from tasks.gates import metrics_of
from tasks.promotion import current_evaluation, judge, promote_judged
from tasks.retrain_config import PromoteConfig


def promote_to(options: argparse.Namespace) -> int:
    """`tessera promote NAME FINGERPRINT [--gates CONFIG] [--force]`: status 1 if a gate is not passed."""
    store = store_of(options)
    artifact = find_artifact(store, options.fingerprint)
    pointed = _by_force(store, options, artifact) if options.force else _by_gates(store, options, artifact)
    if pointed is None:
        sys.stderr.write(f"{options.name} stays as it is; --force promotes all the same\n")
        return 1
    if options.json:
        print_json(pointed.model_dump(mode="json"))
    else:
        sys.stdout.write(f"{pointed.name} → {_what(pointed)} (number {pointed.number})\n")
    return 0


def _by_force(store: Store, options: argparse.Namespace, artifact: Artifact) -> Pointed:
    figures = metrics_of(artifact) if artifact.manifest.kind == "evaluation" else {}
    return promote(store, options.name, artifact.ref, why="by hand, --force", figures=figures)


def _by_gates(store: Store, options: argparse.Namespace, artifact: Artifact) -> Pointed | None:
    if artifact.manifest.kind != "evaluation":
        return promote(store, options.name, artifact.ref, why="by hand")  # nothing of it is measured
    config = PipelineConfig.preset(options.gates).promote if options.gates else PromoteConfig()
    number, baseline = current_evaluation(store, options.name)
    judged = judge(artifact, baseline, config)
    for gate in judged:
        sys.stderr.write(f"{gate}\n")
    return promote_judged(store, options.name, artifact, judged, instead_of=number)


def current(options: argparse.Namespace) -> int:
    """`tessera current [NAME] [--history]`: what names point to."""
    store = store_of(options)
    chosen = [options.name] if options.name else names(store)
    if options.history:
        rows = [entry for name in chosen for entry in history(store, name)]
    else:
        rows = [entry for name in chosen if (entry := newest(store, name)) is not None]
    if not rows:
        sys.stderr.write(f"nothing was promoted in {store.url} yet: `tessera promote NAME FINGERPRINT` does it\n")
    if options.json:
        print_json([_entry(store, entry) for entry in rows])
    elif rows:
        table = plain_table("name", "number", "promoted", "artifact", "")
        for entry in rows:
            table.add_row(entry.name, str(entry.number), entry.promoted[:19].replace("T", " "), _what(entry), entry.why)
        print_table(table)
    return 0 if rows or not options.name else 1


def _entry(store: Store, entry: Pointed) -> dict[str, object]:
    """With the artifacts that an evaluation stands for, so that a reader needs no second look."""
    manifest = store.manifest(entry.artifact)
    inputs = [] if manifest is None else [ref.model_dump(mode="json") for ref in manifest.inputs]
    return entry.model_dump(mode="json") | {"inputs": inputs}


def _what(entry: Pointed) -> str:
    return f"{entry.artifact.kind} {entry.artifact.fingerprint[:12]}"
