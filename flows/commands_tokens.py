"""The commands that look into token datasets, and add some from elsewhere: `tessera tokens ls|show|diff|head|add`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from datasets.config import ImportTokensConfig
from datasets.store import Artifact
from datasets.store.lineage import find_artifact
from flows.commands_inspect import ls as list_artifacts
from flows.stores import store_of
from flows.tables import plain_table, print_json, print_table
from flows.text_histogram import text_histogram

Report = dict[str, Any]


def ls(options: argparse.Namespace) -> int:
    """`tessera tokens ls`: the token datasets, newest last."""
    options.kind = "tokens"
    return list_artifacts(options)


def show(options: argparse.Namespace) -> int:
    """`tessera tokens show FINGERPRINT`: contents, and how the codes are used."""
    from tasks.token_reports import contents  # noqa: PLC0415 - imports torch

    report = contents(_artifact(options, options.fingerprint))
    if options.json:
        print_json(report)
        return 0
    height, width = report["grid"]
    lines = [
        f"tokens {report['fingerprint']}",
        f"  grid       {height} × {width} = {height * width} tokens, f {report['factor']}",
        f"  codebook   {report['codebook_size']:,} codes",
        f"  tokenizer  {report['tokenizer']['digest'][:12] or 'unknown'} (digest)",
        f"  views      {', '.join(report['views'])}",
        f"  columns    {'; '.join(map(_column, report['columns']))}",
        f"  classes    {_classes(report['class_names'])}",
        f"  files      {report['files']}, {report['bytes'] / 1e6:.2f} MB",
    ]
    for split, figures in report["splits"].items():
        lines += ["", *_split_lines(split, figures)]
    for column in report["columns"][1:]:
        lines += ["", f"{column['name']}: all splits, usage {column['usage']:.1%}", *_histogram(column["histogram"])]
    if report["train_val_divergence"]:
        lines += ["", f"train against val: {_divergence(report['train_val_divergence'])}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def diff(options: argparse.Namespace) -> int:
    """`tessera tokens diff A B`: what is not the same, and how far the codes' frequencies are apart."""
    from tasks.token_difference import difference  # noqa: PLC0415 - imports torch

    report = difference(_artifact(options, options.first), _artifact(options, options.second))
    if options.json:
        print_json(report)
        return 0
    names = [name[:12] for name in report["fingerprints"]]
    lines = [f"{names[0]} against {names[1]}"]
    if report["class_names"][0] != report["class_names"][1]:
        lines.append(f"  classes: {' against '.join(map(_classes, report['class_names']))}")
    for name, column in report["columns"].items():
        lines += _column_difference_lines(name, column, names)
    for split, found in report["splits"].items():
        lines += ["", *_difference_lines(split, found, names)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def head(options: argparse.Namespace) -> int:
    """`tessera tokens head FINGERPRINT`: the first records."""
    from tasks.token_reports import rows  # noqa: PLC0415 - imports torch

    report = rows(_artifact(options, options.fingerprint), options.split, options.count)
    if options.json:
        print_json(report)
        return 0
    sys.stdout.write(f"{report['split']}, {report['view']}: {report['num_records']:,} records\n")
    for row in report["rows"]:
        label = "" if row["label"] is None else f"  {row['label']}"
        sys.stdout.write(f"\n{row['key']}{label}\n")
        for name, grid in row["columns"].items():
            sys.stdout.write("\n".join([f"  {name}", *_grid_lines(grid)]) + "\n")
    return 0


def add(options: argparse.Namespace) -> int:
    """`tessera tokens add URL [key=value …]`: register tokens that were made elsewhere."""
    from tasks.import_tokens import request  # noqa: PLC0415 - imports torch
    from tasks.progress import Terminal  # noqa: PLC0415
    from tasks.stage import execute  # noqa: PLC0415

    config, store = ImportTokensConfig.load(None, options.overrides).at(options.url), store_of(options)
    ref = execute(request(config), store, Terminal())
    if options.json:
        print_json(ref.model_dump(mode="json"))
        return 0
    table = plain_table("tokens", "")
    table.add_row(ref.fingerprint[:12], str(store.get(ref).manifest.summary["headline"]))
    print_table(table)
    return 0


def _artifact(options: argparse.Namespace, name: str) -> Artifact:
    return find_artifact(store_of(options), name, "tokens")


def _column(column: Report) -> str:
    height, width = column["grid"]
    used = f"perplexity {column['perplexity']:.1f} of {column['codebook_size']:,}"
    return f"{column['name']} {height}×{width}, {used}"


def _split_lines(split: str, figures: Report) -> list[str]:
    head = f"{split}: {figures['records']:,} records, {figures['tokens']:,} tokens"
    used = f"usage {figures['usage']:.1%} ({figures['num_dead']:,} codes never), perplexity {figures['perplexity']:.1f}"
    return [head, f"  {used}", *_histogram(figures["histogram"])]


def _histogram(counts: list[int]) -> list[str]:
    often = sorted(range(len(counts)), key=lambda code: -counts[code])[:5]
    total = max(sum(counts), 1)
    most = ", ".join(f"{code} ({counts[code] / total:.1%})" for code in often if counts[code])
    return [f"  most frequent: {most}", *text_histogram(counts)]


def _grid_lines(grid: list[list[int]]) -> list[str]:
    width = max(len(str(code)) for line in grid for code in line)
    return ["    " + " ".join(f"{code:>{width}}" for code in line) for line in grid]


def _column_difference_lines(name: str, column: Report, names: list[str]) -> list[str]:
    if not all(column["there"]):
        return [f"  {name}: only in {names[column['there'].index(True)]}"]
    lines = [f"  {name}.{field}: {first} against {second}" for field, (first, second) in column["fields"].items()]
    if not column["comparable"]:
        lines.append(f"  {name}: codes of different origin do not mean the same, they are not compared")
    return lines


def _difference_lines(split: str, found: Report, names: list[str]) -> list[str]:
    first, second = found["records"]
    lines = [f"{split}: {first:,} and {second:,} records, {found['shared']:,} in both"]
    for name, column in found["columns"].items():
        if column["same_tokens"] is not None:
            lines.append(f"  {name}: {column['same_tokens']:.2%} of the tokens of shared records are the same")
        lines.append(f"  {name}: {_divergence(column['divergence'])}")
        if column["codes"]:
            lines.append(f"  {'code':>8}  {names[0]:>12}  {names[1]:>12}")
        lines += [
            f"  {row['code']:>8}  {row['shares'][0]:>12.2%}  {row['shares'][1]:>12.2%}" for row in column["codes"]
        ]
    return lines


def _divergence(found: Report) -> str:
    text = f"Jensen-Shannon divergence {found['bits']:.4f} bits"
    if "floor_bits" not in found:
        return text
    return f"{text}; dealt at random, two sets of these sizes have {found['floor_bits']:.4f}"


def _classes(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if names else "none"
