"""The commands that take models from other projects and give them back: `import`, `export`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.store import ArtifactRef, Store
from datasets.store.lineage import find_artifact
from flows.stores import store_of
from flows.tables import print_json
from tasks.export_model import export_tokenizer
from tasks.import_model import Source, condition_request, open_source, prior_request, tokenizer_request
from tasks.stage import execute
from vqgan_core.config import ConfigError
from vqgan_core.config.base import parse_override
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.prior_facts import PriorFacts

#: Keys of a kind that are listed for people.
MAX_KEYS = 10


def import_model(options: argparse.Namespace) -> int:
    """`tessera import PROJECT PATH`: publish what is in a file, with the account of its keys."""
    store = store_of(options)
    source = open_source(
        options.project,
        Path(options.path),
        config_path=Path(options.config) if options.config else None,
        resolution_px=options.resolution,
        overrides=dict(map(parse_override, options.overrides)),
        facts=PriorFacts(options.num_heads, options.num_classes, options.sos_token),
        condition=options.condition,
    )
    published = _Published(options.json)
    try:
        _import_all(source, options, store, published)
    finally:
        published.tell()  # of a refused file, too: its report says why
    return 0


class _Published:
    """What an import has to say."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._rows: list[dict[str, Any]] = []

    def report(self, kind: str, report: KeyReport) -> None:
        """Note the account of a model's keys."""
        self._rows.append({"kind": kind, "artifact": None, "keys": report.as_json()})

    def artifact(self, kind: str, ref: ArtifactRef) -> None:
        """Note that the model is published."""
        (row,) = (row for row in self._rows if row["kind"] == kind)
        row["artifact"] = ref.model_dump(mode="json")

    def tell(self) -> None:
        """Print it."""
        if self._as_json and self._rows:
            print_json(self._rows)
            return
        for row in self._rows:
            counts = ", ".join(f"{len(keys):,} {name.replace('_', ' ')}" for name, keys in row["keys"].items())
            sys.stdout.write(f"{row['kind']} keys: {counts}\n")
            for name in ("missing", "left_over"):
                _list_keys(name.replace("_", " "), row["keys"][name])
            if row["artifact"]:
                sys.stdout.write(f"{row['kind']} {row['artifact']['fingerprint']}\n")


def _list_keys(what: str, keys: Sequence[str]) -> None:
    for key in keys[:MAX_KEYS]:
        sys.stdout.write(f"  {what}: {key}\n")
    if len(keys) > MAX_KEYS:
        sys.stdout.write(f"  … and {len(keys) - MAX_KEYS:,} more; --json lists all\n")


def _import_all(source: Source, options: argparse.Namespace, store: Store, published: _Published) -> None:
    with_prior = source.holds_prior and not options.tokenizer_only
    if options.tokenizer and not with_prior:
        raise ConfigError("--tokenizer names whose tokens a prior reads, but no prior is to be imported")
    if with_prior:
        source.prior_facts()  # what is not known is told before anything is published
    if not (options.tokenizer or source.holds_tokenizer):
        raise ConfigError("this prior's file has no tokenizer in it: say with --tokenizer whose tokens it reads")
    requests = {}  # all of them refuse what does not fit before the first is published
    if not options.tokenizer:
        published.report("tokenizer", source.tokenizer.report)
        requests["tokenizer"] = tokenizer_request(source)
    if with_prior and source.holds_condition_tokenizer:
        published.report("condition tokenizer", source.condition_tokenizer.report)
        requests["condition tokenizer"] = condition_request(source)
    made = {kind: store.get(execute(request, store)) for kind, request in requests.items()}
    for kind, artifact in made.items():
        published.artifact(kind, artifact.ref)
    if with_prior:
        tokenizer = made.get("tokenizer") or find_artifact(store, options.tokenizer, "tokenizer")
        condition = made.get("condition tokenizer")
        imported = source.prior(tokenizer, condition)
        published.report("prior", imported.report)
        published.artifact("prior", execute(prior_request(source, imported, tokenizer, condition), store))


def export_model(options: argparse.Namespace) -> int:
    """`tessera export PROJECT FINGERPRINT PATH`: write a tokenizer as another project's files."""
    artifact = find_artifact(store_of(options), options.fingerprint, "tokenizer")
    files = export_tokenizer(options.project, artifact, Path(options.path))
    if options.json:
        print_json([str(path) for path in files])
    else:
        sys.stdout.writelines(f"{path}\n" for path in files)
    return 0
