"""The command that puts artifacts side by side: `compare`."""

from __future__ import annotations

import argparse
import sys

from datasets.store import ArtifactRef
from datasets.store.lineage import find_artifact
from flows.local_server import local_server
from flows.stores import store_of
from flows.tables import print_json


def compare(options: argparse.Namespace) -> int:
    """`tessera compare A B …`: one page, in the store and in the UI."""
    store = store_of(options)
    for name in options.fingerprints:  # a wrong name is told before anything is started
        find_artifact(store, name)
    with local_server(debug=options.debug):
        from flows.compare import compare as flow  # noqa: PLC0415 - after the server's environment is set
        from flows.run import Ledger, current_ledger  # noqa: PLC0415 - imports Prefect
        from tasks.progress import Terminal  # noqa: PLC0415

        token = current_ledger.set(Ledger(Terminal()))
        try:
            result = flow(options.fingerprints, store.url, options.num_images, options.num_samples)
        finally:
            current_ledger.reset(token)
    page = store.get(ArtifactRef.model_validate(result)).url("comparison.html")
    if options.json:
        print_json({"result": result, "page": page})
    else:
        sys.stdout.write(f"page: {page}\n")
    return 0
