"""Which store a command without a config means."""

from __future__ import annotations

import argparse
import os
import sys

from datasets.config import StoreConfig
from datasets.store import Store


def store_of(options: argparse.Namespace) -> Store:
    """The store of --store, else of TESSERA_STORE, else the default one."""
    url = options.store or os.environ.get("TESSERA_STORE") or StoreConfig().url
    return Store.open(StoreConfig(url=url))


def say_empty(store: Store) -> None:
    """On stderr, so that a mistyped store is noticed and the output stays what was asked for."""
    sys.stderr.write(f"nothing is published in {store.url}: --store or TESSERA_STORE names another store\n")
