"""Ten SIGKILLs in sharding and ten in encoding, on Ceph's gateway: the bytes of a run on a disk that nothing disturbed.

A run is killed when the server is asked to keep the n-th object of its stage: before that takes effect, right after, or
a moment later. The n are drawn one from each tenth of the stage's objects, so kills lie in the middle of the work, all
over it. The same with a twentieth of all requests going wrong.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datasets.store import Store
from tests import ceph as ceph_server
from tests.ceph import Ceph, ceph
from tests.processes import Marked
from tests.s3_server import Faults, Storm, proxy_before, use_server
from tests.tasks.forker import Forker
from tests.tiny import build, contents, tiny_config, write_digits, write_preset

__all__ = ["ceph"]

NUM_KILLS = 10
NUM_AFTER = 4
"""Objects that are always left to make: as many as a run could finish before the signal reaches it."""
SHARE_OF_FAULTS = 0.05
SMALL = {
    "shard__images_per_shard": 10, "tokenizer__training__num_steps": 1, "tokenizer__training__validate_every_steps": 1,
    "encode__execution__batch_size": 4,
}  # fmt: skip


@dataclass
class Executioner:
    """Kills a run when the server has been asked for so many objects of a kind."""

    kind: str
    chance: random.Random
    kept: set[str] = field(default_factory=set)
    """Objects that the server has."""
    _pid: int | None = None
    _number: int = 0
    _after: bool = False
    _seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, number: int) -> None:
        """The next run is to be killed at the object of this number; at the next one, if that is there already."""
        with self._lock:
            self._number = max(number, len(self.kept) + 1)
            self._after = self.chance.random() < 2 / 3
            self._seconds = self.chance.choice((0.0, self.chance.uniform(0, 0.05)))

    def watch(self, pid: int) -> None:
        """The run has begun."""
        self._pid = pid

    def __call__(self, method: str, path: str, done: bool) -> None:
        """See a request."""
        if method != "PUT" or f"/parts/{self.kind}/" not in path:
            return
        with self._lock:
            count = len(self.kept | {path})
            if done:
                self.kept.add(path)
            if not self._number or count < self._number or done != self._after:
                return
            self._number = 0
        time.sleep(self._seconds)
        assert self._pid is not None, "a run does not get so far before its pid is known"
        os.kill(self._pid, signal.SIGKILL)


@dataclass(frozen=True)
class Undisturbed:
    """What comes out on a disk."""

    source: Path
    store: Store

    def num_objects(self, kind: str) -> int:
        """Objects of parts of a kind."""
        return len(self.store.storage.find(f"parts/{kind}"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    source = write_digits(folder / "digits", 90)
    config = tiny_config(folder / "store", source, **SMALL)
    build(config, last="encode")
    return Undisturbed(source, Store.open(config.store))


@pytest.fixture(params=["calm", "faults"])
def server(
    request: pytest.FixtureRequest, ceph: Ceph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Faults]:
    """The gateway behind a proxy that sees every request, and in one case spoils a twentieth of them."""
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_before(ceph.endpoint))
        if request.param == "faults":
            proxy.storm = Storm(SHARE_OF_FAULTS, random.Random(secrets.randbelow(2**32)))
        use_server(monkeypatch, proxy.url, ceph_server.KEY_ID, ceph_server.SECRET)
        monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
        yield proxy


@pytest.mark.slow
@pytest.mark.timeout(900)  # for the cluster to start on a busy machine
def test_ten_kills_change_nothing(
    server: Faults, ceph: Ceph, undisturbed: Undisturbed, tmp_path: Path, marked: Marked
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"random.Random({seed})")  # noqa: T201 - shown when the test fails
    bucket = f"kills-{secrets.token_hex(6)}"
    ceph.make_bucket(bucket)
    config = write_preset(tmp_path / "tiny.yaml", f"s3://{bucket}/store", undisturbed.source, **SMALL)
    forker, chance = Forker.start(marked), random.Random(seed)
    for stage, kind in (("shard", "corpus"), ("encode", "tokens")):
        server.witness = executioner = Executioner(kind, chance)
        total = undisturbed.num_objects(kind)
        most = total - NUM_AFTER
        assert most > 4 * NUM_KILLS, "too little work to be killed in"
        for number in range(NUM_KILLS):
            journal, before = tmp_path / f"{stage}-{number}.jsonl", len(executioner.kept)
            executioner.expect(chance.randint(most * number // NUM_KILLS + 1, most * (number + 1) // NUM_KILLS))
            run = forker.begin(config, journal, stage)
            executioner.watch(run.pid)
            assert run.wait() == -signal.SIGKILL, run.errors
            print(f"{stage}: killed with {before} → {len(executioner.kept)} of {total} objects")  # noqa: T201
            assert before <= len(executioner.kept) < total
        assert not server.requests("PUT", f"/store/{kind}/"), "a run was killed when it was done"
        last = forker.begin(config, tmp_path / f"{stage}.jsonl", stage)
        assert last.wait() == 0, last.errors
    if server.storm is not None:
        print(server.storm.struck)  # noqa: T201
        assert sum(server.storm.struck.values()) > NUM_KILLS
        server.storm = None
    store = Store.open(f"s3://{bucket}/store")
    assert contents(store) == contents(undisturbed.store)
    assert store.verify() == []
