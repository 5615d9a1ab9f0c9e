"""The store: artifacts that are looked up by fingerprint, computed by one run at a time, and published whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from datasets.config import StoreConfig
from datasets.store import gc as _gc
from datasets.store import lease as _lease
from datasets.store.artifact import Artifact
from datasets.store.environment import environment
from datasets.store.errors import ArtifactMissing, ArtifactTooNew, CorruptObject, ObjectMissing
from datasets.store.fingerprint import digest_of
from datasets.store.manifest import ArtifactRef, Cost, FileEntry, InputRef, Manifest, describe
from datasets.store.names import MANIFEST, RESERVED, artifact_folder, claim_folder, resolve, work_folder
from datasets.store.parts import Part, put_new, read_part, read_part_file, write_part
from datasets.store.storage import Storage
from datasets.store.verify import verify_manifest
from datasets.store.workspace import Workspace
from vqgan_core.config import canonical_json

__all__ = ["Draft", "Store"]

_LOG = logging.getLogger(__name__)
_NUM_THREADS = 16
_READ_ATTEMPTS = 3


@dataclass(frozen=True)
class Draft:
    """What a stage wants to publish."""

    kind: str
    fingerprint: str
    stage: str
    stage_version: int | str
    recipe: Mapping[str, Any]
    inputs: Sequence[InputRef] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Content, by path."""
    parts: Sequence[Part] = ()
    """Shared files, published before."""
    views: Mapping[str, bytes] = field(default_factory=dict)
    """Pages that hold times; not part of the digest."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    """Bytes that are 0 are taken from the store's own count, which begins when it is opened."""
    device: str = "cpu"
    """Name of what computed."""


class Store:
    """Artifacts below one URL. It may be handed to other processes."""

    def __init__(self, storage: Storage, *, lease_ttl_seconds: float = _lease.TTL_SECONDS) -> None:
        self.storage = storage
        self._lease_ttl_seconds = lease_ttl_seconds

    @classmethod
    def open(cls, where: StoreConfig | str) -> Store:
        """Open a store; nothing is read or written yet.

        Raises:
            StoreUnavailable: the URL cannot be one of a store.
        """
        config = StoreConfig(url=where) if isinstance(where, str) else where
        return cls(Storage(config.url, config.endpoint_url))

    @property
    def url(self) -> str:
        """URL of the root."""
        return self.storage.root

    def lookup(self, kind: str, fingerprint: str) -> Artifact | None:
        """Return an artifact whose manifest and files are all there with their sizes, else None.

        A damaged one is reported in the log and treated as missing, so that its stage makes it again.

        Raises:
            ArtifactTooNew: a newer Tessera wrote it.
        """
        try:
            manifest = self._manifest(kind, fingerprint)
        except CorruptObject as error:
            _LOG.warning("%s; it is treated as missing", error)
            return None
        if manifest is None:
            return None
        absent = self._absent(manifest.folder, manifest.entries())
        if absent:
            _LOG.warning(
                "%s lacks %s (%d files in all); it is treated as missing",
                self.storage.url(manifest.folder),
                absent[0],
                len(absent),
            )
            return None
        return Artifact(manifest, self.storage)

    def get(self, ref: InputRef) -> Artifact:
        """Return the artifact of a reference.

        Raises:
            ArtifactMissing: it is not there, incomplete, or was made again with another content.
        """
        artifact = self.lookup(ref.kind, ref.fingerprint)
        if artifact is None:
            raise ArtifactMissing(
                f"there is no {ref.kind} {ref.fingerprint[:12]} in {self.url}; run the stage that makes it"
            )
        if artifact.manifest.digest != ref.digest:
            raise ArtifactMissing(
                f"{ref.kind} {ref.fingerprint[:12]} in {self.url} was made again: its digest is now "
                f"{artifact.manifest.digest[:12]}, asked for was {ref.digest[:12]}; run the flow again"
            )
        return artifact

    def artifacts(self, kind: str | None = None) -> list[Manifest]:
        """Return the manifests of all artifacts (of a kind), oldest first; damaged ones are reported in the log."""
        kinds = [kind] if kind is not None else [name for name in self.storage.folders("") if name not in RESERVED]
        paths = [path for name in kinds for path in self.storage.find(name) if path.endswith(f"/{MANIFEST}")]
        keys = [path.split("/") for path in paths if path.count("/") == 2]
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            found = list(pool.map(lambda key: self._manifest_or_warning(key[0], key[1]), keys))
        manifests = [manifest for manifest in found if manifest is not None]
        return sorted(manifests, key=lambda manifest: (manifest.created, manifest.fingerprint))

    def manifest(self, ref: InputRef) -> Manifest | None:
        """Return what is written about an artifact; whether its files are there is not looked at. None: nothing is."""
        return self._manifest_or_warning(ref.kind, ref.fingerprint)

    def claim(
        self, kind: str, fingerprint: str, *, on_wait: Callable[[_lease.Holder], None] | None = None
    ) -> AbstractContextManager[_lease.Lease]:
        """Hold the right to compute an artifact, waiting while another live run has it; then look it up again."""
        folder = claim_folder(kind, fingerprint)
        return _lease.acquire(self.storage, folder, ttl_seconds=self._lease_ttl_seconds, on_wait=on_wait)

    def held(self, kind: str, fingerprint: str) -> _lease.Lease | None:
        """Return the lease of the run that computes an artifact now, to work for that run; None: nobody does."""
        return _lease.held(self.storage, claim_folder(kind, fingerprint))

    def workspace(self, kind: str, fingerprint: str) -> Workspace:
        """Return the place of an artifact's partial work."""
        return Workspace(self.storage, work_folder(kind, fingerprint))

    def part(self, kind: str, key: str) -> Part | None:
        """Return a part that is there with all its files, else None."""
        return read_part(self.storage, kind, key)

    def put_part(
        self, kind: str, key: str, files: Mapping[str, bytes], summary: Mapping[str, Any] | None = None
    ) -> Part:
        """Publish a part, or return the one that is there already."""
        return write_part(self.storage, kind, key, files, summary)

    def read_part(self, part: Part, name: str) -> bytes:
        """Return a file of a part, checked against its sha256.

        Raises:
            KeyError: the part has no such file.
            CorruptObject: what the store has is something else.
        """
        return read_part_file(self.storage, part, name)

    def publish(self, draft: Draft, lease: _lease.Lease | None = None) -> ArtifactRef:
        """Publish an artifact, manifest last; if it was published meanwhile, that one stays and is returned.

        Args:
            draft: what to publish.
            lease: the claim under which it was made, checked before every write. Without one the caller has to see to
                it that nobody publishes the same fingerprint at the same time.

        Raises:
            ValueError: the draft cannot be described: a name that no store could hold, a NaN in its summary.
            LeaseLost: another run has taken over.
            ArtifactMissing: a part is not there any more.
            StoreNotWritable: no permission or no space; nothing is published then.
        """
        manifest = self._manifest_of(draft)  # first: what cannot be described is not written
        self._withdraw_damaged(draft, lease)
        for path, data in (*draft.files.items(), *draft.views.items()):
            published = self._guard(draft, lease)
            if published is not None:
                return published
            put_new(self.storage, f"{manifest.folder}/{path}", data, replace=True)
        absent = self._absent(manifest.folder, manifest.entries())
        if absent:
            raise ArtifactMissing(f"cannot publish {manifest.folder}: {absent[0]} is not there any more; run it again")
        published = self._guard(draft, lease)
        if published is not None:
            return published
        path, data = f"{manifest.folder}/{MANIFEST}", manifest.to_bytes()
        if not self.storage.create(path, data):
            published = self._guard(draft, lease)
            if published is not None:
                return published
            self.storage.write(path, data)  # a damaged manifest, or one of lost files
        return Artifact(manifest, self.storage).ref

    def verify(
        self, manifest: Manifest | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> list[str]:
        """Read everything of one artifact, or of all, and compare it with the manifests; return what is wrong."""
        chosen = [manifest] if manifest is not None else self.artifacts()
        return verify_manifest(self.storage, chosen, progress)

    def gc(self, *, dry_run: bool = True, older_than_seconds: float = 86400.0) -> list[_gc.Garbage]:
        """List, and unless `dry_run` delete, what no artifact refers to and nobody has touched for a day."""
        return _gc.collect(self.storage, self.artifacts, dry_run=dry_run, older_than_seconds=older_than_seconds)

    def _guard(self, draft: Draft, lease: _lease.Lease | None) -> ArtifactRef | None:
        """Before every write: is the lease still ours, and is nothing published yet?"""
        if lease is not None:
            lease.check()
        if self.storage.size(f"{artifact_folder(draft.kind, draft.fingerprint)}/{MANIFEST}") is None:
            return None
        artifact = self.lookup(draft.kind, draft.fingerprint)
        return artifact.ref if artifact is not None else None

    def _withdraw_damaged(self, draft: Draft, lease: _lease.Lease | None) -> None:
        """Remove the manifest of an artifact that lacks files: new ones of the same sizes would make it look whole."""
        path = f"{artifact_folder(draft.kind, draft.fingerprint)}/{MANIFEST}"
        if self.storage.size(path) is not None and self._guard(draft, lease) is None:
            self.storage.delete(path)

    def _manifest_of(self, draft: Draft) -> Manifest:
        own = [describe(path, data) for path, data in draft.files.items()]
        files = sorted([*own, *(entry for part in draft.parts for entry in part.files)], key=lambda entry: entry.path)
        views = sorted((describe(path, data) for path, data in draft.views.items()), key=lambda entry: entry.path)
        paths = [entry.path for entry in (*files, *views)]
        assert len(set(paths)) == len(paths), f"a file is listed twice: {sorted(paths)}"
        assert MANIFEST not in paths, f"{MANIFEST} is the store's own"
        try:
            canonical_json([dict(draft.recipe), dict(draft.summary)])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"recipe or summary of {draft.kind} is no JSON ({error}); give plain numbers, None for a missing one"
            ) from None
        return Manifest(
            kind=draft.kind,
            fingerprint=draft.fingerprint,
            digest=digest_of(files),
            stage=draft.stage,
            stage_version=draft.stage_version,
            recipe=dict(draft.recipe),
            inputs=[InputRef(kind=ref.kind, fingerprint=ref.fingerprint, digest=ref.digest) for ref in draft.inputs],
            files=files,
            views=views,
            summary=dict(draft.summary),
            environment=environment(draft.device),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            cost=Cost(
                seconds=draft.cost.seconds,
                device_seconds=draft.cost.device_seconds,
                bytes_read=draft.cost.bytes_read or self.storage.bytes_read,
                bytes_written=draft.cost.bytes_written or self.storage.bytes_written,
            ),
        )

    def _manifest(self, kind: str, fingerprint: str) -> Manifest | None:
        """Read a manifest. One that cannot be parsed is read again: a reply can be short and look whole."""
        path = f"{artifact_folder(kind, fingerprint)}/{MANIFEST}"
        for attempt in range(_READ_ATTEMPTS):
            try:
                manifest = Manifest.from_bytes(self.storage.read(path), where=self.storage.url(path))
                break
            except ObjectMissing:
                return None
            except CorruptObject:
                if attempt == _READ_ATTEMPTS - 1:
                    raise
        if (manifest.kind, manifest.fingerprint) != (kind, fingerprint):
            raise CorruptObject(f"{self.storage.url(path)} is the manifest of {manifest.folder}")
        return manifest

    def _manifest_or_warning(self, kind: str, fingerprint: str) -> Manifest | None:
        try:
            return self._manifest(kind, fingerprint)
        except (CorruptObject, ArtifactTooNew) as error:
            _LOG.warning("%s", error)
            return None

    def _absent(self, folder: str, entries: Iterable[FileEntry]) -> list[str]:
        """Paths of entries that are not there with their size.

        One listing serves the own files, a look each part's. What a listing does not show is looked for, too: it may be
        behind, and no checksum guards it.
        """
        wanted = {resolve(folder, entry.path): entry.bytes for entry in entries}
        listed = self.storage.find(folder)
        unseen = [path for path, size in wanted.items() if listed.get(path) != size]
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            sizes = dict(zip(unseen, pool.map(self.storage.size, unseen), strict=True))
        return [path for path, size in sizes.items() if size != wanted[path]]
