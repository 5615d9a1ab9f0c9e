"""One run computes: racing, dying, standing still, on this host and on another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from datasets.store import Draft, Holder, LeaseLost, Storage, Store
from datasets.store.lease import acquire, generations, read_holder
from tests.datasets.store.conftest import Spawn
from tests.s3_server import Faults

FOLDER = "claims/corpus-" + "0" * 64
FINGERPRINT = "0" * 64

HOLD = """
import sys, time
from datasets.store.lease import acquire
from datasets.store import Storage
with acquire(Storage(sys.argv[1]), sys.argv[2], ttl_seconds=float(sys.argv[3])) as lease:
    print("held", lease.generation, flush=True)
    sys.stdin.readline()
"""

PUBLISH = """
import sys
from datasets.store import Draft, LeaseLost, Storage, Store
store = Store(Storage(sys.argv[1]), lease_ttl_seconds=float(sys.argv[3]))
fingerprint = sys.argv[2]
with store.claim("corpus", fingerprint) as lease:
    print("held", lease.generation, flush=True)
    sys.stdin.readline()
    try:
        store.publish(Draft("corpus", fingerprint, "shard", 1, {}, files={"who": b"paused"}), lease)
    except LeaseLost as error:
        print("lost:", error, flush=True)
"""


def held(spawn: Spawn, program: str, *arguments: object) -> subprocess.Popen[str]:
    child = spawn(program, *map(str, arguments))
    assert child.stdout is not None
    assert child.stdout.readline().startswith("held")
    return child


def foreign(counter: int = 0) -> Holder:
    return Holder(nonce="n", host="elsewhere", machine="another boot", pid=os.getpid(), started="1", counter=counter)


def test_it_is_released_and_taken_again(storage: Storage) -> None:
    for generation in (1, 2, 3):
        with acquire(storage, FOLDER) as lease:
            lease.check()
            assert lease.generation == generation
            holder = read_holder(storage, FOLDER, generation)
            assert holder is not None
            assert (holder.pid, holder.released) == (os.getpid(), False)
        holder = read_holder(storage, FOLDER, generation)
        assert holder is not None
        assert holder.released
    assert generations(storage, FOLDER) == [1, 2, 3]


def test_it_is_released_after_an_exception(storage: Storage) -> None:
    with pytest.raises(KeyError), acquire(storage, FOLDER):
        raise KeyError
    began = time.monotonic()
    with acquire(storage, FOLDER):
        assert time.monotonic() - began < 5


def test_threads_of_one_process_exclude_each_other(url: str) -> None:
    inside, most, order = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with acquire(Storage(url), FOLDER, ttl_seconds=2):
            with order:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with order:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most == 1


def test_waiting_says_for_whom_and_ends_with_the_release(shared_url: str, spawn: Spawn) -> None:
    child = held(spawn, HOLD, shared_url, FOLDER, 45)
    waited_for: list[Holder] = []

    def seen(holder: Holder) -> None:
        waited_for.append(holder)
        child.stdin.write("\n")
        child.stdin.flush()

    with acquire(Storage(shared_url), FOLDER, on_wait=seen) as lease:
        assert lease.generation == 2
    assert [holder.pid for holder in waited_for] == [child.pid]
    assert f"process {child.pid} on " in str(waited_for[0])


def test_a_holder_that_was_killed_here_is_replaced_at_once(shared_url: str, spawn: Spawn) -> None:
    child = held(spawn, HOLD, shared_url, FOLDER, 45)
    child.kill()  # and not waited for: a zombie is dead, too
    began = time.monotonic()
    with acquire(Storage(shared_url), FOLDER) as lease:
        assert time.monotonic() - began < 10
        assert lease.generation == 2


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with acquire(storage, FOLDER):
        mine = read_holder(storage, FOLDER, 1)
    assert mine is not None
    assert not mine.is_dead()
    assert Holder(**asdict(mine) | {"started": "1"}).is_dead()
    # another host's or namespace's pid says nothing here
    assert not Holder(**asdict(mine) | {"started": "1", "host": "elsewhere"}).is_dead()
    assert not Holder(**asdict(mine) | {"started": "1", "machine": "another boot"}).is_dead()
    assert not Holder(**asdict(mine) | {"started": "1", "machine": ""}).is_dead()


def test_a_dead_holder_elsewhere_is_replaced_after_the_ttl(storage: Storage) -> None:
    storage.write(f"{FOLDER}/000001.json", foreign().to_bytes())
    began = time.monotonic()
    with acquire(storage, FOLDER, ttl_seconds=1.5) as lease:
        assert time.monotonic() - began >= 1.5
        assert lease.generation == 2


def test_a_claim_that_cannot_be_read_expires_too(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write(f"{FOLDER}/000007.json", b"no json")
    with acquire(storage, FOLDER, ttl_seconds=0.5) as lease:
        assert lease.generation == 8


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Storage]:
    """A store in which a holder on another host is alive for two seconds, on a clock that says nothing."""
    storage, stop = Storage(str(tmp_path)), threading.Event()

    def beat() -> None:
        for counter in range(20):
            storage.write(f"{FOLDER}/000001.json", foreign(counter).to_bytes())
            stop.wait(0.1)

    thread = threading.Thread(target=beat)
    thread.start()
    while storage.size(f"{FOLDER}/000001.json") is None:
        time.sleep(0.01)
    yield storage
    stop.set()
    thread.join()


def test_a_holder_elsewhere_that_lives_is_waited_for(beating: Storage) -> None:
    began = time.monotonic()
    with acquire(beating, FOLDER, ttl_seconds=0.9):
        assert time.monotonic() - began > 2.0


def test_a_paused_holder_loses_and_cannot_publish(shared_url: str, spawn: Spawn) -> None:
    child = held(spawn, PUBLISH, shared_url, FINGERPRINT, 1.5)
    child.send_signal(signal.SIGSTOP)
    store = Store(Storage(shared_url), lease_ttl_seconds=1.5)
    with store.claim("corpus", FINGERPRINT) as lease:
        child.send_signal(signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        assert "lost: another run has taken over corpus-000" in child.stdout.readline()
        assert store.lookup("corpus", FINGERPRINT) is None
        store.publish(Draft("corpus", FINGERPRINT, "shard", 1, {}, files={"who": b"second"}), lease)
    artifact = store.lookup("corpus", FINGERPRINT)
    assert artifact is not None
    assert artifact.read("who") == b"second"


def test_a_heartbeat_notices_that_the_lease_is_lost(storage: Storage) -> None:
    with acquire(storage, FOLDER, ttl_seconds=0.9) as lease:
        storage.write(f"{FOLDER}/000002.json", foreign().to_bytes())
        deadline = time.monotonic() + 20
        while not lease.lost and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lease.lost
        with pytest.raises(LeaseLost, match="another run has taken over"):
            lease.check()
    # who has lost says no more, and does not touch what is the successor's
    first = json.loads(storage.read(f"{FOLDER}/000001.json"))
    assert not first["released"]
    assert json.loads(storage.read(f"{FOLDER}/000002.json"))["nonce"] == "n"


def test_a_claim_that_only_a_listing_knows_of_takes_nothing_over(s3_url: str, faults: Faults) -> None:
    storage = Storage(s3_url)
    faults.add("rewrite", path="list-type=2", times=10**6, old="000001.json", new="100001.json")
    with acquire(storage, FOLDER) as lease:
        assert generations(storage, FOLDER) == [100001]
        lease.check()
        storage.write(f"{FOLDER}/000002.json", foreign().to_bytes())
        with pytest.raises(LeaseLost, match="another run has taken over"):
            lease.check()


def test_processes_are_never_inside_together(tmp_path: Path, spawn: Spawn) -> None:
    program = """
import sys, time, os
from datasets.store.lease import acquire
from datasets.store import Storage
for turn in range(6):
    with acquire(Storage(sys.argv[1]), sys.argv[2], ttl_seconds=9) as lease:
        descriptor = os.open(sys.argv[3], os.O_CREAT | os.O_EXCL)  # fails if somebody else is inside
        time.sleep(0.02)
        os.close(descriptor); os.unlink(sys.argv[3])
        print("held", lease.generation, flush=True)
"""
    mark = str(tmp_path / "inside")
    children = [spawn(program, str(tmp_path / "store"), FOLDER, mark) for _ in range(3)]
    taken: list[int] = []
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        taken += [int(line.split()[1]) for line in output.splitlines()]
    assert sorted(taken) == list(range(1, 19))
