"""Which corpus a source's next generation grows from.

A request stays a pure function of config, listing and parent, and the parent is an input like any other: its digest is
in the fingerprint. Only this search looks at what a store holds. Where the source is as it was when a corpus was made,
what is asked for is that corpus itself, with its own parent: a source that did not change is served from the store.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from datasets.config import ShardConfig, SourceConfig
from datasets.errors import IngestError
from datasets.ingest.parent import can_be_parent
from datasets.ingest.plan import unit_recipe
from datasets.sources import Listing
from datasets.store import InputRef, Manifest, Store
from datasets.store.lineage import find_artifact

SOURCE = "source"
_SOURCES: TypeAdapter[SourceConfig] = TypeAdapter(SourceConfig)


def find_parent(config: ShardConfig, listing: Listing, store: Store) -> InputRef | None:
    """The corpus from which a corpus of this listing grows; None: it is made anew.

    Raises:
        IngestError: the parent that the config names has another recipe.
        StoreError: there is no such parent, or the store cannot be read.
    """
    if config.parent is None:
        return None
    if config.parent == "auto":
        family = [manifest for manifest in store.artifacts("corpus") if _is_family(manifest, config)]
    else:
        family = [_named(config.parent, config, store)]
    for manifest in reversed(family):
        if _input(manifest, SOURCE).digest == listing.digest:
            return parent_of(manifest)
    whole = (m for m in reversed(family) if can_be_parent(m) and store.lookup(m.kind, m.fingerprint) is not None)
    newest = next(whole, None)
    return None if newest is None else newest.as_input()


def parent_of(manifest: Manifest) -> InputRef | None:
    """The corpus that a corpus has grown from; None: it is the first of its line."""
    return next((ref for ref in manifest.inputs if ref.kind == "corpus"), None)


def _input(manifest: Manifest, kind: str) -> InputRef:
    return next(ref for ref in manifest.inputs if ref.kind == kind)


def _is_family(manifest: Manifest, config: ShardConfig) -> bool:
    """Images of one source in one canonical form."""
    if unit_recipe(manifest.recipe) != unit_recipe(config.recipe()):
        return False
    try:
        source = _SOURCES.validate_python(manifest.summary.get("source"))
    except ValidationError:  # of a version whose sources had other fields
        return False
    return _place(source) == _place(config.source)


def _place(source: SourceConfig) -> dict[str, Any]:
    """What names a source: whether missing files would be fetched does not."""
    return source.model_dump(exclude={"download"})


def _named(name: str, config: ShardConfig, store: Store) -> Manifest:
    manifest = find_artifact(store, name, "corpus").manifest
    theirs, ours = unit_recipe(manifest.recipe), unit_recipe(config.recipe())
    if theirs != ours:
        fields = sorted(field for field in theirs.keys() | ours.keys() if theirs.get(field) != ours.get(field))
        raise IngestError(
            f"corpus {manifest.fingerprint[:12]} cannot be the parent: its {', '.join(fields)} differ from this "
            "config's; images of one corpus have one form. Make them equal, or set shard.parent=null"
        )
    return manifest
