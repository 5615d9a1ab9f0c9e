"""The command that hands samples to other people's evaluators: `export-samples`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from datasets.store.lineage import find_artifact
from flows.stores import store_of
from flows.tables import print_json


def export_samples(options: argparse.Namespace) -> int:
    """`tessera export-samples FINGERPRINT --npz FILE | --png FOLDER`."""
    from tasks.export import write_npz, write_pngs  # noqa: PLC0415 - imports torch

    samples = find_artifact(store_of(options), options.fingerprint, "samples")
    target = Path(options.npz or options.png)
    count = write_npz(samples, target) if options.npz else write_pngs(samples, target)
    if options.json:
        print_json({"samples": samples.manifest.fingerprint, "num_images": count, "path": str(target)})
    else:
        sys.stdout.write(f"{count:,} images in {target}\n")
    return 0
