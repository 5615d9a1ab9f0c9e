"""Finding artifacts by what a person types, and walking from an artifact to what it was made from."""

from __future__ import annotations

from datasets.store.artifact import Artifact
from datasets.store.errors import ArtifactMissing
from datasets.store.manifest import Manifest
from datasets.store.store import Store


def find_artifact(store: Store, name: str, kind: str | None = None) -> Artifact:
    """The artifact of a fingerprint, of enough of its beginning to be unique, or of a URI.

    Raises:
        ArtifactMissing: there is none, several begin like that, or it is of another kind.
    """
    wanted = name.rstrip("/").rsplit("/", 1)[-1].lower()
    found = [manifest for manifest in store.artifacts() if manifest.fingerprint.startswith(wanted)]
    if not found:
        raise ArtifactMissing(
            f"no artifact in {store.url} has a fingerprint that begins with {wanted!r}: see `tessera ls`"
        )
    if len(found) > 1:
        names = ", ".join(f"{manifest.kind} {manifest.fingerprint[:16]}" for manifest in found[:4])
        raise ArtifactMissing(f"{wanted!r} is the beginning of {len(found)} fingerprints ({names}): give more of it")
    manifest = found[0]
    if kind is not None and manifest.kind != kind:
        raise ArtifactMissing(
            f"{manifest.fingerprint[:12]} is a {manifest.kind} artifact, but a {kind} artifact is needed"
        )
    artifact = store.lookup(manifest.kind, manifest.fingerprint)
    if artifact is None:
        raise ArtifactMissing(f"{manifest.kind} {manifest.fingerprint[:12]} is damaged: `tessera verify` says how")
    return artifact


def ancestors(store: Store, manifest: Manifest) -> list[Manifest]:
    """An artifact and all that it was made from, the sources first; each once. What is not there is left out."""
    ordered: dict[str, Manifest] = {}

    def visit(current: Manifest) -> None:
        for ref in current.inputs:
            if ref.fingerprint not in ordered and (found := store.manifest(ref)) is not None:
                visit(found)
        ordered[current.fingerprint] = current

    visit(manifest)
    return list(ordered.values())
