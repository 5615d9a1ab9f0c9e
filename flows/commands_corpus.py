"""The commands about corpora: `tessera corpus ls`, `show`, `diff`, `head`, `verify`, `compact`, `sheet`, `poses`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from datasets.corpus import Corpus
from datasets.corpus_check import check_corpus
from datasets.corpus_difference import corpus_difference
from datasets.ingest.rows import QuarantineRow, from_parquet
from datasets.order import permutation
from datasets.poses import read_poses
from datasets.store import Artifact, Manifest
from datasets.store.lineage import find_artifact
from flows.stores import say_empty, store_of
from flows.tables import plain_table, print_json, print_table, size_text

MOST_PATHS = 20
LARGEST_PX = 160


def ls(options: argparse.Namespace) -> int:
    """`tessera corpus ls`: corpora, newest last, with what each has grown from."""
    store = store_of(options)
    manifests = store.artifacts("corpus")
    if not manifests:
        say_empty(store)
    rows = [_entry(manifest) for manifest in manifests]
    if options.json:
        print_json(rows)
    if options.json or not rows:
        return 0
    table = plain_table(
        "fingerprint", "created", "generation", "parent", "images", "new", "gone", "classes", "shards", ""
    )
    for row in rows:
        numbers = (row["new"], row["tombstones"], row["num_classes"], row["num_shards"])
        table.add_row(
            row["fingerprint"][:12], row["created"][:19].replace("T", " "), str(row["generation"]),
            (row["parent"] or "")[:12], f"{row['kept']:,}", *(f"{number:,}" for number in numbers), row["source"],
        )  # fmt: skip
    print_table(table)
    return 0


def show(options: argparse.Namespace) -> int:
    """`tessera corpus show FINGERPRINT`: what became of every file of the source."""
    manifest = _corpus(options, options.fingerprint).manifest
    summary = manifest.summary
    if options.json:
        print_json(_entry(manifest) | {"summary": summary, "recipe": manifest.recipe})
        return 0
    entry = _entry(manifest)
    sys.stdout.write(f"corpus {manifest.fingerprint}\n{summary['headline']}\n")
    sys.stdout.write(f"source {entry['source']}\n")
    if entry["parent"]:
        sys.stdout.write(f"generation {entry['generation']}, grown from {entry['parent'][:12]}\n")
    sys.stdout.write(
        f"{summary['listed']:,} listed = {summary['kept']:,} kept + {summary['quarantined']:,} quarantined + "
        f"{summary['duplicates']:,} duplicates; {size_text(summary['image_bytes'])} of images in "
        f"{summary['num_shards']:,} shards\n"
    )
    for title, counts in (
        ("splits", summary["splits"]),
        ("left out", summary["reasons"]),
        ("classes", summary["classes"]),
    ):
        table = plain_table(title, "images")
        for name, count in counts.items():
            table.add_row(name, f"{count:,}")
        if counts:
            print_table(table)
    return 0


def diff(options: argparse.Namespace) -> int:
    """`tessera corpus diff FIRST SECOND`: which records came, went, or changed; status 0 either way."""
    found = corpus_difference(_corpus(options, options.first), _corpus(options, options.second))
    if options.json:
        print_json(dataclasses.asdict(found))
        return 0
    first, second = found.num_shards
    sys.stdout.write(
        f"{found.num_common:,} records in both; {found.num_shared_shards:,} shards of {first:,} and {second:,}\n"
    )
    for name in ("added", "removed", "relabelled", "moved", "resplit", "classes_added", "classes_removed"):
        paths = getattr(found, name)
        if paths:
            more = f"  … and {len(paths) - MOST_PATHS:,} more\n" if len(paths) > MOST_PATHS else ""
            lines = "".join(f"  {path}\n" for path in paths[:MOST_PATHS])
            sys.stdout.write(f"{name.replace('_', ' ')}: {len(paths):,}\n{lines}{more}")
    return 0


def head(options: argparse.Namespace) -> int:
    """`tessera corpus head FINGERPRINT`: the first records of a split, or of the quarantine."""
    artifact = _corpus(options, options.fingerprint)
    rows = _quarantine(artifact, options.count) if options.quarantine else _records(artifact, options)
    if options.json:
        print_json(rows)
        return 0
    table = plain_table(*(rows[0] if rows else ("nothing",)))
    for row in rows:
        table.add_row(*(str(value)[:12] if name in ("key", "sha256") else str(value) for name, value in row.items()))
    print_table(table)
    return 0


def verify(options: argparse.Namespace) -> int:
    """`tessera corpus verify FINGERPRINT`: read every record of every shard; status 1 if anything is wrong."""
    problems = check_corpus(_corpus(options, options.fingerprint))
    if options.json:
        print_json(problems)
    else:
        sys.stdout.write("".join(f"{problem}\n" for problem in problems) or "every record is there, whole\n")
    return 1 if problems else 0


def compact(options: argparse.Namespace) -> int:
    """`tessera corpus compact FINGERPRINT`: one generation out of many, without reading the source."""
    from tasks.compact import request  # noqa: PLC0415 - imports torch
    from tasks.progress import Terminal  # noqa: PLC0415
    from tasks.stage import execute  # noqa: PLC0415

    store = store_of(options)
    ref = execute(request(_corpus(options, options.fingerprint)), store, Terminal())
    manifest = store.get(ref).manifest
    if options.json:
        print_json(_entry(manifest))
    else:
        sys.stdout.write(f"corpus {manifest.fingerprint}\n{manifest.summary['headline']}\n")
    return 0


def sheet(options: argparse.Namespace) -> int:
    """`tessera corpus sheet FINGERPRINT`: random records as one PNG."""
    from tasks.report.pictures import fitted, grid  # noqa: PLC0415 - drawing takes a moment to import

    corpus = Corpus.open(_corpus(options, options.fingerprint))
    numbers = permutation(corpus.num_records(options.split), options.seed)[: options.count].tolist()
    pictures = [fitted(corpus.image(options.split, number), LARGEST_PX) for number in numbers]
    out = Path(options.out)
    out.write_bytes(grid(pictures, columns=options.columns))
    records = [dataclasses.asdict(corpus.record(options.split, number)) for number in numbers]
    if options.json:
        print_json({"path": str(out), "records": records})
    else:
        sys.stdout.write(f"{out}: {len(records)} of {corpus.num_records(options.split):,} images of {options.split}\n")
    return 0


def poses(options: argparse.Namespace) -> int:
    """`tessera corpus poses ANNOTATIONS FOLDER`: keypoints drawn as label maps, to be kept beside their images."""
    found, folder = read_poses(options.annotations), Path(options.folder)
    for path, png in found.maps(options.width):
        target = folder / f"{path}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png)
    holds = f"{{kind: labels, num_classes: {found.num_classes}}}"
    pair = f"{{kind: files, url: {folder}, holds: {holds}}}"
    if options.json:
        print_json(
            {"path": str(folder), "num_images": len(found.images), "limbs": list(found.limb_names), "pair": pair}
        )
    else:
        sys.stdout.write(f"{len(found.images):,} maps in {folder}; beside the images: shard.pairs.pose='{pair}'\n")
    return 0


def _corpus(options: argparse.Namespace, name: str) -> Artifact:
    return find_artifact(store_of(options), name, "corpus")


def _entry(manifest: Manifest) -> dict[str, Any]:
    summary = manifest.summary
    parent = next((ref.fingerprint for ref in manifest.inputs if ref.kind == "corpus"), None)
    source = summary["source"]
    return {
        "fingerprint": manifest.fingerprint,
        "created": manifest.created,
        "generation": summary.get("generation", 1),
        "parent": parent,
        "kept": summary["kept"],
        "new": summary.get("new", summary["kept"]),
        "tombstones": summary.get("tombstones", 0),
        "num_classes": summary["num_classes"],
        "num_shards": summary["num_shards"],
        "source": str(source.get("url") or ", ".join(source.get("urls", ())) or source.get("name") or source["kind"]),
    }


def _records(artifact: Artifact, options: argparse.Namespace) -> list[dict[str, Any]]:
    corpus = Corpus.open(artifact)
    names = corpus.class_names
    rows = []
    for number in range(min(options.count, corpus.num_records(options.split))):
        record = corpus.record(options.split, number)
        label = names[record.label] if record.label >= 0 else None
        rows.append(
            {
                "key": record.key,
                "label": label,
                "size": f"{record.width}×{record.height}",
                "shard": record.shard.rpartition("/")[2],
                "source_path": record.source_path,
            }
        )
    return rows


def _quarantine(artifact: Artifact, count: int) -> list[dict[str, Any]]:
    rows = from_parquet(artifact.read("quarantine.parquet"), QuarantineRow)[:count]
    return [dataclasses.asdict(row) for row in rows]
