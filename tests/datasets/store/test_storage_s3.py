"""What s3fs and S3-like servers silently do wrong, against a real server behind a proxy that misbehaves."""

from __future__ import annotations

import itertools
import logging
import socket
import time
from collections.abc import Callable

import boto3
import fsspec.config
import pytest
from botocore.exceptions import ClientError

from datasets.store import CorruptObject, DiskFull, Storage, StoreError, StoreNotWritable, StoreUnavailable
from datasets.store.storage import objects
from datasets.store.storage.s3_options import s3_options
from tests.s3_server import KEY_ID, SECRET, Faults

LARGE = bytes(range(256)) * (20 << 12)  # 20 MiB: three ranges of 8 MiB


@pytest.fixture
def storage(s3_url: str, faults: Faults) -> Storage:
    """A storage whose requests pass the proxy."""
    return Storage(s3_url)


def test_a_precondition_failure_is_no_error(storage: Storage, s3_url: str) -> None:
    # 412 arrives as OSError(22), not as FileExistsError
    assert storage.create("claim", b"mine")
    assert not Storage(s3_url).create("claim", b"yours")


@pytest.mark.parametrize("action", ["reset_after", "status_after"])
def test_a_lost_reply_is_recognised_as_our_own_success(storage: Storage, faults: Faults, action: str) -> None:
    faults.add(action, method="PUT", path="claim", status=500)
    assert storage.create("claim", b"mine, with a nonce")
    assert len(faults.requests("PUT", "claim")) >= 2
    assert not storage.create("claim", b"yours")


@pytest.mark.parametrize(
    ("status", "code"), [(409, "ConditionalRequestConflict"), (503, "SlowDown"), (500, "InternalError")]
)
def test_conflicts_and_outages_are_tried_again(storage: Storage, faults: Faults, status: int, code: str) -> None:
    faults.add("status", method="PUT", path="claim", times=2, status=status, code=code)
    assert storage.create("claim", b"mine")
    assert storage.read("claim") == b"mine"


def test_an_outage_that_does_not_end_is_reported(storage: Storage, faults: Faults) -> None:
    faults.add("status", method="PUT", times=10**6, status=409, code="ConditionalRequestConflict")
    with pytest.raises(StoreUnavailable, match="answered ConditionalRequestConflict \\(409\\) to write claim"):
        storage.create("claim", b"mine")


def test_nothing_empty_is_created(storage: Storage) -> None:
    # s3fs turns an exclusive creation of no bytes into an overwrite
    storage.write("claim", b"theirs")
    with pytest.raises(AssertionError, match="empty"):
        storage.create("claim", b"")
    assert storage.read("claim") == b"theirs"


def test_a_server_that_ignores_the_condition_is_called_out_once(
    storage: Storage, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.add("unconditional", method="PUT", times=10**6)
    storage.warn_if_unprotected()
    storage.warn_if_unprotected()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "does not honour exclusive creation" in caplog.text
    assert storage.find("") == {}


def test_a_server_that_honours_the_condition_is_not(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    storage.warn_if_unprotected()
    assert caplog.text == ""
    assert storage.find("") == {}


def test_a_server_without_conditions_still_works(storage: Storage, faults: Faults) -> None:
    for name, expected in (("first", True), ("second", False)):
        faults.add("status", method="PUT", path="claim", status=501, code="NotImplemented")
        assert storage.create("claim", name.encode()) is expected
    assert storage.read("claim") == b"first"


def test_a_missing_bucket_is_named_and_not_made(storage: Storage, faults: Faults) -> None:
    elsewhere = Storage("s3://no-such-bucket-here/prefix")
    attempts: list[Callable[[], object]] = [
        lambda: elsewhere.write("a", b"1"),
        lambda: elsewhere.create("a", b"1"),
        lambda: elsewhere.read("a"),
        lambda: elsewhere.size("a"),
        lambda: elsewhere.find(""),
        lambda: elsewhere.folders(""),
        lambda: elsewhere.delete("a"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match="no bucket 'no-such-bucket-here' at http"):
            attempt()
    with pytest.raises(ClientError):
        boto3.client("s3").head_bucket(Bucket="no-such-bucket-here")


def test_credentials_of_digits_stay_text(storage: Storage, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"FSSPEC_S3_KEY": "0123456789", "FSSPEC_S3_SECRET": "1234567890"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    configured: dict[str, dict[str, object]] = {}
    fsspec.config.set_conf_env(configured, values)
    assert configured["s3"]["secret"] == 1234567890  # the trap: fsspec parsed the text as JSON
    monkeypatch.setitem(fsspec.config.conf, "s3", configured["s3"])
    again = Storage(storage.root)
    again.write("a", b"1")
    assert again.read("a") == b"1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidAccessKeyId", "credentials"),
        ("SignatureDoesNotMatch", "credentials"),
        ("AccessDenied", "no permission to write"),
    ],
)
def test_refused_credentials_are_explained_without_them(
    storage: Storage, faults: Faults, code: str, words: str
) -> None:
    faults.add("status", method="PUT", times=10**6, status=403, code=code)
    for attempt in (storage.write, storage.create):
        with pytest.raises(StoreError, match=words) as caught:
            attempt("a", b"1")
        message = str(caught.value)
        assert code in message
        assert "\n" not in message
        assert SECRET not in message
        assert KEY_ID not in message


def test_no_credentials_at_all(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreUnavailable, match="set AWS_ACCESS_KEY_ID"):
        Storage(s3_url).read("a")


def test_an_endpoint_out_of_reach_is_reported_soon(s3_url: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"cannot reach .* at {endpoint}"):
        Storage(s3_url, endpoint).read("a")
    assert time.monotonic() - began < 30


def test_the_configured_endpoint_wins_over_the_environment(
    s3_url: str, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    Storage(s3_url, moto_endpoint).write("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_endpoint)
    assert Storage(s3_url).read("a") == b"1"


@pytest.mark.parametrize("action", ["truncate", "short", "reset", "reset_after"])
@pytest.mark.parametrize("content", [b"0123456789" * 20, LARGE], ids=["small", "large"])
def test_a_reply_that_is_cut_is_asked_for_again(storage: Storage, faults: Faults, action: str, content: bytes) -> None:
    storage.write("a", content)
    faults.add(action, path="prefix/a")
    assert storage.read("a", size=len(content)) == content


def test_a_reply_that_is_always_short_is_never_returned(storage: Storage, faults: Faults) -> None:
    storage.write("a", b"0123456789")
    faults.add("short", path="prefix/a", times=10**6)
    with pytest.raises(CorruptObject, match="of bytes 0 to 10 only 5 came back"):
        storage.read("a", size=10)


def test_reads_cost_one_request(storage: Storage, faults: Faults) -> None:
    storage.write("a", b"0123456789")
    faults.log.clear()
    storage.read("a", size=10)
    storage.read("a")
    storage.read_range("a", 3, 7)
    assert [(method, where) for method, _, where in faults.log] == [
        ("GET", "bytes=0-9"), ("GET", "bytes=0-"), ("GET", "bytes=3-6")
    ]  # fmt: skip


def test_large_objects_are_read_by_ranges(storage: Storage, faults: Faults) -> None:
    storage.write("a", LARGE)
    faults.log.clear()
    assert storage.read("a", size=len(LARGE)) == LARGE
    edges = [0, 8 << 20, 16 << 20, len(LARGE)]
    ranges = {f"bytes={start}-{end - 1}" for start, end in itertools.pairwise(edges)}
    assert {where for _, _, where in faults.log} == ranges
    assert len(faults.log) == 3


def test_keys_are_deleted_one_by_one(storage: Storage, faults: Faults) -> None:
    # the bulk call fails on servers that demand Content-MD5
    storage.write("a", b"1")
    storage.delete("a")
    assert [method for method, _, _ in faults.log] == ["PUT", "DELETE"]


def test_a_large_upload_is_visible_only_when_complete(
    storage: Storage, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_UPLOAD_BYTES", 6 << 20)
    faults.add("status", method="PUT", path="partNumber=3", times=10**6, status=403, code="AccessDenied")
    with pytest.raises(StoreNotWritable, match="no permission"):
        storage.write("a", LARGE)
    assert storage.size("a") is None
    bucket = storage.root.removeprefix("s3://").split("/")[0]
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket=bucket)
    faults.plan.clear()
    faults.add("reset", method="PUT", path="partNumber=3")
    storage.write("a", LARGE)
    assert storage.read("a", size=len(LARGE)) == LARGE


@pytest.mark.parametrize(("status", "code"), [(403, "QuotaExceeded"), (507, "XMinioStorageFull")])
def test_a_full_server_is_a_full_disk(storage: Storage, faults: Faults, status: int, code: str) -> None:
    faults.add("status", method="PUT", times=10**6, status=status, code=code)
    with pytest.raises(DiskFull, match=code):
        storage.write("a", b"1")


def test_clients_share_what_botocore_reads_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = []
    for key in ("ONE", "OTHER"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
        sessions.append(s3_options(None)["session"])
    one, other = sessions
    assert one is not other
    assert one.get_component("data_loader") is other.get_component("data_loader")
    assert one.get_component("credential_provider") is not other.get_component("credential_provider")
