"""A lease on the computing of one artifact: one run computes, the others wait, and a dead run loses it within a minute.

Each holder is one numbered object, `claims/<kind>-<fingerprint>/000001.json`, created exclusively: whoever creates the
next number is the next holder. The holder rewrites its own object every few seconds with a growing counter, and at
the end with `released`. Waiters may take the next number when the last one is released; when its process is known to
be dead (same host, same boot, no such process); or when its counter has not changed for `ttl_seconds` of the waiter's
own monotonic clock, so that clocks of different machines are never compared. A holder that finds a higher number than
its own was taken for dead and must not publish.

Nothing is deleted here: with deletion, a slow waiter could remove its successor's claim. `gc` does it, days later.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from datasets.store.errors import LeaseLost, ObjectMissing, StoreError
from datasets.store.storage import Storage

__all__ = ["TTL_SECONDS", "Holder", "Lease", "acquire", "claim_path", "generations", "held", "read_holder", "try_hold"]

_LOG = logging.getLogger(__name__)
TTL_SECONDS = 45.0
_BEATS_PER_TTL = 9


@dataclass(frozen=True, slots=True)
class Holder:
    """What a claim says about who made it."""

    nonce: str
    host: str
    """Host name."""
    machine: str
    """Boot id and process namespace: where the pid below means something. Empty where the system has none."""
    pid: int
    started: str
    """The process' start time in the system's own units: a pid is used again."""
    counter: int = 0
    """Grows with every heartbeat."""
    released: bool = False
    """The holder is done, with or without success."""

    def to_bytes(self) -> bytes:
        """The claim's content."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    def is_dead(self) -> bool:
        """Whether this process can know that the holder has died: it ran here, and does not any more."""
        if not self.machine or (self.host, self.machine) != (platform.node(), _machine()):
            return False
        return _start_of(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    """The right to compute and publish one artifact; made by `acquire`.

    A copy in another process can `check`; the heart beats where it was acquired.
    """

    def __init__(self, storage: Storage, folder: str, generation: int, holder: Holder, interval_seconds: float) -> None:
        self.generation = generation
        self._storage = storage
        self._folder = folder
        self._holder = holder
        self._interval_seconds = interval_seconds
        self._lost = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("_stop", "_thread")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _stop=threading.Event(), _thread=None)

    @property
    def lost(self) -> bool:
        """Whether a newer holder has been seen; costs nothing and may be a heartbeat late."""
        return self._lost

    def check(self) -> None:
        """Make sure, with one small request, that nobody has taken over.

        Raises:
            LeaseLost: somebody has.
        """
        if not self._lost:
            self._lost = self._newer_exists()
        if self._lost:
            raise LeaseLost(
                f"another run has taken over {self._folder.removeprefix('claims/')}, because this one stood still "
                "too long; what this one computed is not published"
            )

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._beat, name=f"lease {self._folder}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self._lost:
            try:
                self._write(counter=-1, released=True)
            except StoreError as error:
                _LOG.warning("could not release %s, it will expire: %s", self._folder, error)

    def _beat(self) -> None:
        """Rewrite the claim until released or lost. An outage is survived: the claim is then stolen, or it is not."""
        counter = 0
        while not self._stop.wait(self._interval_seconds):
            counter += 1
            try:
                if self._newer_exists():
                    self._lost = True
                    return
                self._write(counter=counter, released=False)
            except StoreError as error:
                _LOG.warning("heartbeat of %s failed, trying again: %s", self._folder, error)

    def _write(self, *, counter: int, released: bool) -> None:
        record = Holder(**(asdict(self._holder) | {"counter": counter, "released": released}))
        self._storage.write(claim_path(self._folder, self.generation), record.to_bytes())

    def _newer_exists(self) -> bool:
        """By a listing, which no checksum guards: a claim that only it knows of is none."""
        newer = [number for number in generations(self._storage, self._folder) if number > self.generation]
        return any(self._storage.size(claim_path(self._folder, number)) is not None for number in newer)


@contextlib.contextmanager
def acquire(
    storage: Storage,
    folder: str,
    *,
    ttl_seconds: float = TTL_SECONDS,
    on_wait: Callable[[Holder], None] | None = None,
) -> Iterator[Lease]:
    """Hold the lease of a claims folder, waiting for it if need be.

    Args:
        storage: the store.
        folder: `claims/<kind>-<fingerprint>`.
        ttl_seconds: how long a holder may stand still before it is taken for dead; heartbeats are nine times as fast.
        on_wait: called once for every holder that is waited for.
    """
    storage.warn_if_unprotected()
    poll_seconds = min(1.0, ttl_seconds / _BEATS_PER_TTL / 2)
    watch = _Watch(ttl_seconds, poll_seconds)
    announced = ""
    while (lease := _try_acquire(storage, folder, watch.says_dead, ttl_seconds)) is None:
        if watch.holder is not None and watch.holder.nonce != announced:
            announced = watch.holder.nonce
            if on_wait is not None:
                on_wait(watch.holder)
        time.sleep(poll_seconds)
    with lease:
        yield lease


@contextlib.contextmanager
def try_hold(storage: Storage, folder: str) -> Iterator[Lease | None]:
    """Hold the lease if it is free or its holder known to be dead; else give None at once."""
    lease = _try_acquire(storage, folder, Holder.is_dead, TTL_SECONDS)
    if lease is None:
        yield None
    else:
        with lease:
            yield lease


def _try_acquire(storage: Storage, folder: str, may_take: Callable[[Holder], bool], ttl_seconds: float) -> Lease | None:
    """Take the lease if it is free, or if its last holder `may_take` be replaced; its heart beats once entered."""
    numbers = generations(storage, folder)
    last = numbers[-1] if numbers else 0
    if last:
        holder = read_holder(storage, folder, last)
        if holder is None or not (holder.released or may_take(holder)):
            return None
    mine = Holder(uuid.uuid4().hex, platform.node(), _machine(), os.getpid(), _start_of(os.getpid()))
    if not storage.create(claim_path(folder, last + 1), mine.to_bytes()):
        return None
    return Lease(storage, folder, last + 1, mine, ttl_seconds / _BEATS_PER_TTL)


def held(storage: Storage, folder: str) -> Lease | None:
    """Somebody's lease, to `check` only: whoever works for the holder stops when another run takes over."""
    numbers = generations(storage, folder)
    holder = read_holder(storage, folder, numbers[-1]) if numbers else None
    return None if holder is None or holder.released else Lease(storage, folder, numbers[-1], holder, TTL_SECONDS)


def generations(storage: Storage, folder: str) -> list[int]:
    """Numbers of all claims in a folder, ascending."""
    names = [path.rsplit("/", 1)[-1] for path in storage.find(folder)]
    return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())


def read_holder(storage: Storage, folder: str, generation: int) -> Holder | None:
    """Read a claim; None if it is gone. One that cannot be read stands for a holder that will expire."""
    try:
        data = storage.read(claim_path(folder, generation))
    except ObjectMissing:
        return None
    try:
        return Holder(**json.loads(data))
    except (ValueError, TypeError):
        return Holder(nonce=data.hex(), host="unknown", machine="", pid=0, started="")


class _Watch:
    """Decides by this process' own clock whether a holder stands still."""

    def __init__(self, ttl_seconds: float, poll_seconds: float) -> None:
        self.holder: Holder | None = None
        self._ttl = ttl_seconds
        self._longest = 3 * poll_seconds
        self._last_look = 0.0
        self._unchanged_seconds = 0.0

    def says_dead(self, holder: Holder) -> bool:
        """Look at the holder again. A gap in which this process itself stood still counts as one look, not as time."""
        now = time.monotonic()
        if holder == self.holder:
            self._unchanged_seconds += min(now - self._last_look, self._longest)
        else:
            self.holder, self._unchanged_seconds = holder, 0.0
        self._last_look = now
        return holder.is_dead() or self._unchanged_seconds >= self._ttl


def claim_path(folder: str, generation: int) -> str:
    """Where a generation's claim lies."""
    return f"{folder}/{generation:06d}.json"


def _machine() -> str:
    """Where this process' pid is valid: containers on one machine share the boot id, not the namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Start time of a running process; empty if there is none, or if it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command in parentheses may hold spaces: fields are counted from the last ")". State is field 3, start 22.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
