"""The store on servers that are no imitation: Ceph's gateway, and rclone, which ignores preconditions."""

from __future__ import annotations

import logging
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from datasets.store import Storage, StoreUnavailable
from tests import ceph as ceph_server
from tests.ceph import Ceph, ceph
from tests.rclone import rclone
from tests.s3_server import use_server

__all__ = ["ceph", "rclone"]

LARGE = bytes(range(256)) * (20 << 12)  # 20 MiB: three ranges of 8 MiB


@pytest.fixture
def on_ceph(ceph: Ceph, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix in a fresh bucket; the environment says where it is and holds the credentials."""
    use_server(monkeypatch, ceph.endpoint, ceph_server.KEY_ID, ceph_server.SECRET)
    bucket = f"store-{secrets.token_hex(6)}"
    ceph.make_bucket(bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.mark.slow
@pytest.mark.timeout(600)  # for the cluster to start on a busy machine
def test_ceph_creates_for_one_of_many(on_ceph: str, caplog: pytest.LogCaptureFixture) -> None:
    storages = [Storage(on_ceph) for _ in range(8)]
    storages[0].warn_if_unprotected()
    assert caplog.text == ""
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(3):
            won = list(pool.map(lambda i, r=round_: storages[i].create(f"claim-{r}", b"%d" % i), range(8)))
            assert sum(won) == 1
            assert storages[0].read(f"claim-{round_}") == b"%d" % won.index(True)


@pytest.mark.slow
@pytest.mark.timeout(600)  # for the cluster to start on a busy machine
def test_what_ceph_acknowledged_survives_its_death(on_ceph: str, ceph: Ceph) -> None:
    storage = Storage(on_ceph)
    written = {f"part-{i:03d}": secrets.token_bytes(1000 + i) for i in range(20)} | {"large": LARGE}
    for path, data in written.items():
        storage.write(path, data)
    ceph.kill()
    ceph.restart()
    again = Storage(on_ceph)
    assert set(again.find("")) == set(written)
    assert all(again.read(path, size=len(data)) == data for path, data in written.items())


@pytest.mark.slow
@pytest.mark.timeout(600)  # for the cluster to start on a busy machine
def test_ceph_checks_who_asks(on_ceph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StoreUnavailable, match=r"credentials for s3://.* are missing or refused"):
        Storage(on_ceph).write("a", b"1")


def test_rclone_is_called_out(rclone: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage(rclone)
    storage.write("a/b", LARGE)
    assert storage.read("a/b", size=len(LARGE)) == LARGE
    storage.warn_if_unprotected()
    storage.warn_if_unprotected()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "does not honour exclusive creation" in caplog.text
    assert set(storage.find("")) == {"a/b"}
