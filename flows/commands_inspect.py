"""The commands that look into a store: `ls`, `show`, `verify`, `gc`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from datasets.store import Manifest, Store
from datasets.store.lineage import ancestors, find_artifact
from flows.metric_table import print_metrics
from flows.stores import say_empty, store_of
from flows.tables import plain_table, print_json, print_table, size_text
from vqgan_core.config import ConfigError

KINDS = ("corpus", "tokenizer", "tokens", "prior", "samples", "evaluation", "comparison", "sweep", "experiment")


def ls(options: argparse.Namespace) -> int:
    """`tessera ls [KIND]`: artifacts, newest last."""
    if options.kind and options.kind not in KINDS:
        raise ConfigError(f"there is no kind {options.kind!r}: choose one of {', '.join(KINDS)}")
    store = store_of(options)
    manifests = store.artifacts(options.kind)
    if not manifests:
        say_empty(store)
    if options.json:
        print_json([_entry(store, manifest) for manifest in manifests])
    if options.json or not manifests:
        return 0
    table = plain_table("kind", "fingerprint", "created", "files", "size", "")
    for manifest in manifests:
        size = sum(file.bytes for file in manifest.files)
        table.add_row(
            manifest.kind, manifest.fingerprint[:12], manifest.created[:19].replace("T", " "), str(len(manifest.files)),
            size_text(size), str(manifest.summary.get("headline", "")),
        )  # fmt: skip
    print_table(table)
    return 0


def show(options: argparse.Namespace) -> int:
    """`tessera show FINGERPRINT`: recipe, summary and lineage of an artifact."""
    store = store_of(options)
    artifact = find_artifact(store, options.fingerprint)
    lineage = [_entry(store, manifest) for manifest in ancestors(store, artifact.manifest)]
    if options.json:
        print_json(artifact.manifest.model_dump(mode="json") | {"uri": artifact.ref.uri, "lineage": lineage})
        return 0
    manifest = artifact.manifest
    sys.stdout.write(f"{manifest.kind} {manifest.fingerprint}\n{artifact.ref.uri}\n")
    sys.stdout.write(f"made by {manifest.stage} v{manifest.stage_version} at {manifest.created}\n")
    shown = manifest.model_dump(mode="json")
    for title, value in ((name, shown[name]) for name in ("recipe", "summary", "cost")):
        sys.stdout.write(f"\n{title}\n{json.dumps(value, indent=2, ensure_ascii=False)}\n")
    if manifest.kind == "evaluation":
        print_metrics(artifact)
    sys.stdout.write("\nlineage\n")
    for entry in lineage:
        sys.stdout.write(f"  {entry['kind']:<11}{entry['fingerprint'][:12]}  {entry['summary'].get('headline', '')}\n")
    return 0


def verify(options: argparse.Namespace) -> int:
    """`tessera verify [FINGERPRINT]`: re-hash one artifact or all; status 1 if anything differs."""
    store = store_of(options)
    chosen = [find_artifact(store, options.fingerprint).manifest] if options.fingerprint else store.artifacts()
    if not chosen:
        say_empty(store)
    found = {manifest.fingerprint: store.verify(manifest) for manifest in chosen}
    if options.json:
        print_json([{"fingerprint": name, "problems": [str(p) for p in problems]} for name, problems in found.items()])
    else:
        for manifest in chosen:
            problems = found[manifest.fingerprint]
            sys.stdout.write(f"{manifest.kind:<11}{manifest.fingerprint[:12]}  {'ok' if not problems else 'DAMAGED'}\n")
            for problem in problems:
                sys.stdout.write(f"    {problem}\n")
    return 1 if any(found.values()) else 0


def gc(options: argparse.Namespace) -> int:
    """`tessera gc`: what no artifact needs; deletes it only with --delete."""
    store = store_of(options)
    garbage = store.gc(dry_run=not options.delete, older_than_seconds=options.older_than_hours * 3600)
    if options.json:
        print_json([{"path": item.path, "bytes": item.bytes, "reason": item.reason} for item in garbage])
        return 0
    for item in garbage:
        sys.stdout.write(f"{size_text(item.bytes):>10}  {item.path}  ({item.reason})\n")
    total = size_text(sum(item.bytes for item in garbage))
    verb = "deleted" if options.delete else "would delete (say --delete to do it)"
    sys.stdout.write(f"{verb}: {len(garbage)} files, {total} in {store.url}\n")
    return 0


def _entry(store: Store, manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": manifest.kind,
        "fingerprint": manifest.fingerprint,
        "digest": manifest.digest,
        "uri": store.storage.url(manifest.folder),
        "created": manifest.created,
        "summary": manifest.summary,
    }
