"""The pages of artifacts in Prefect.

Each lies under a key of its fingerprint, so that its page lists every run that made, was served or read it.
"""

from __future__ import annotations

import logging

from prefect.artifacts import create_markdown_artifact

from datasets.errors import DataError
from datasets.store import InputRef, Manifest, Store, StoreError
from datasets.store.lineage import ancestors
from tasks.artifact_page import artifact_key, artifact_page, reading_note


def show_artifact(store: Store, ref: InputRef, state: str) -> None:
    """Put an artifact on the page of the run around it. A page that cannot be drawn is no reason to fail a run."""
    try:
        artifact = store.get(ref)
        page = artifact_page(artifact, ancestors(store, artifact.manifest), _link)
    except (StoreError, DataError) as error:
        logging.getLogger(__name__).warning("no page of %s %s: %s", ref.kind, ref.fingerprint[:12], error)
        return
    how = "served from the store" if state == "Cached" else "made by this run"
    _put(artifact.manifest, page, f"{how} · {artifact.ref.uri}")


def show_reading(store: Store, ref: InputRef, reader: str) -> None:
    """Note on the page of the run around it that a stage read an artifact."""
    if manifest := store.manifest(ref):
        _put(manifest, reading_note(manifest, reader), f"read by {reader} · {store.storage.url(manifest.folder)}")


def _put(manifest: Manifest, page: str, description: str) -> None:
    create_markdown_artifact(page, key=artifact_key(manifest), description=description)


def _link(manifest: Manifest) -> str:
    """Where Prefect's UI has the page of an artifact's key."""
    return f"/v2/artifacts/key/{artifact_key(manifest)}"
