"""What every stage has in common: its identity, and how a request becomes a published artifact exactly once.

A stage module gives a `Request`: what is asked for (stage, recipe, digests of the inputs, hence the fingerprint) and
how to build it. `execute` serves it from the store, or claims it, builds it from whatever a dead run left behind, and
publishes it. Prefect comes on top of this (`tasks.orchestrate`); nothing here knows it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets.store import (
    Artifact,
    ArtifactRef,
    Cost,
    Draft,
    Holder,
    InputRef,
    Lease,
    Part,
    Store,
    Workspace,
    fingerprint,
)
from tasks.progress import Quiet, Reporter


@dataclass(frozen=True)
class Stage:
    """Identity of a stage. `version` is raised by hand whenever the stage's numbers change."""

    name: str
    version: str
    kind: str


@dataclass
class Product:
    """What a builder hands over for publication."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    views: Mapping[str, bytes] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True)
class Work:
    """What a builder is given: the store, the private workspace that survives kills, the lease, and a reporter."""

    store: Store
    workspace: Workspace
    lease: Lease
    reporter: Reporter


@dataclass(frozen=True)
class Headway:
    """How far earlier runs got with an artifact that is not published."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class Request:
    """A wanted artifact: everything that its fingerprint is made of, and how to build it."""

    stage: Stage
    recipe: Mapping[str, Any]
    inputs: tuple[InputRef, ...]
    build: Callable[[Work], Product]
    label: str
    headway: Callable[[Store, Workspace], Headway] | None = None
    """What earlier runs left behind, found without computing or writing anything: for a plan."""
    join: Callable[[Work], None] | None = None
    """How to help a run that builds this already, where the config asks for several machines."""

    @property
    def fingerprint(self) -> str:
        """The artifact's name: sha256 over stage, version, recipe and the digests of the inputs."""
        return fingerprint(self.stage.name, self.stage.version, self.recipe, self.inputs)


def execute(request: Request, store: Store, reporter: Reporter | None = None) -> ArtifactRef:
    """Return the requested artifact, building it if it is not there.

    Two processes that ask for the same one: one builds, the other waits and is served.

    Raises:
        StoreError: the store cannot be read or written, or the claim was lost to another run.
        RuntimeError: this is a child process that has not begun yet: it imports a script that lacks its guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise RuntimeError('a script that runs stages needs `if __name__ == "__main__":` around what it calls')
    kind, name, teller = request.stage.kind, request.fingerprint, reporter or Quiet()
    if found := store.lookup(kind, name):
        return found.ref

    def waiting(holder: Holder) -> None:
        teller.say(f"{request.label}: process {holder.pid} on {holder.host} computes this; waiting for it")
        if request.join is not None and (lease := store.held(kind, name)) is not None:
            request.join(Work(store, store.workspace(kind, name), lease, teller))

    with store.claim(kind, name, on_wait=waiting) as lease:
        if found := store.lookup(kind, name):  # somebody finished it while we waited
            return found.ref
        workspace = store.workspace(kind, name)
        started = time.monotonic()
        product = request.build(Work(store, workspace, lease, teller))
        ref = store.publish(_draft(request, product, time.monotonic() - started), lease)
        workspace.clear()
        return ref


def input_of(artifact: Artifact | ArtifactRef) -> InputRef:
    """An artifact as an input of the next stage: keyed by digest, since training is not bit-equal on every machine."""
    return (artifact.ref if isinstance(artifact, Artifact) else artifact).as_input()


def _draft(request: Request, product: Product, seconds: float) -> Draft:
    on_device = seconds if product.device != "cpu" else 0.0
    return Draft(
        kind=request.stage.kind,
        fingerprint=request.fingerprint,
        stage=request.stage.name,
        stage_version=request.stage.version,
        recipe=request.recipe,
        inputs=request.inputs,
        files=product.files,
        parts=product.parts,
        views=product.views,
        summary=product.summary,
        device=product.device,
        cost=Cost(seconds=round(seconds, 3), device_seconds=round(on_device, 3)),
    )
