"""A real S3 server inside the test process, and a proxy before it that misbehaves on command.

Use by importing the fixtures: `from tests.s3_server import faults, moto_endpoint, s3_url`.
"""

from __future__ import annotations

import http
import http.client
import logging
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from moto.server import ThreadedMotoServer

KEY_ID, SECRET = "TESTKEYID", "very-secret-value"
SLOW_SECONDS = 1.0


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """URL of the server."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line a request says nothing about a failed test
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prefix in a fresh bucket; the environment says where it is and holds the credentials."""
    use_server(monkeypatch, moto_endpoint, KEY_ID, SECRET)
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path_factory.mktemp("cache")))
    bucket = f"tessera-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{moto_endpoint}/{bucket}", method="PUT")  # noqa: S310 (http, ours)
    # boto3 would take half a second to load its models; urlopen would ask whatever proxy its first caller had.
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    return f"s3://{bucket}/some/prefix"


def use_server(monkeypatch: pytest.MonkeyPatch, endpoint: str, key_id: str, secret: str) -> None:
    """Say in the environment where the server is and who asks, and nothing else about S3."""
    values = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@dataclass
class Fault:
    """What to do to matching requests, the first `times` of them.

    Actions: `status` answers with an error and does nothing; `status_after` does it and then answers with an error;
    `reset` and `reset_after` likewise drop the connection; `truncate` drops it in the middle of the body; `short` sends
    half of the body with a matching length; `corrupt` changes a bit; `rewrite` says `new` for `old`; `slow` answers
    late; `unconditional` forwards without If-None-Match.
    """

    action: str
    method: str = "GET"
    path: str = ""
    times: int = 1
    status: int = 500
    code: str = "InternalError"
    old: str = ""
    new: str = ""

    def matches(self, method: str, path: str) -> bool:
        """Whether it applies, which uses it up once."""
        if self.times <= 0 or method != self.method or not re.search(self.path, path):
            return False
        self.times -= 1
        return True


@dataclass
class Storm:
    """Faults that strike at random: a share of all requests, whatever they are."""

    share: float
    chance: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    """How often each fault was done."""

    ACTIONS: ClassVar[tuple[str, ...]] = (
        "status", "status_after", "reset", "reset_after", "truncate", "short", "corrupt", "slow"
    )  # fmt: skip

    def next(self) -> Fault | None:
        """What to do to the next request."""
        if self.chance.random() >= self.share:
            return None
        action = self.chance.choice(self.ACTIONS)
        self.struck[action] += 1
        return Fault(action, status=503, code="SlowDown")


@dataclass
class Faults:
    """The proxy: `url` is its endpoint, `plan` what it will do, `log` what it was asked."""

    url: str
    plan: list[Fault] = field(default_factory=list)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    storm: Storm | None = None
    witness: Callable[[str, str, bool], None] | None = None
    """Told method and path of each request before it is served, and again with True when it has taken effect."""

    def add(self, action: str, **how: str | int) -> None:
        """Plan a fault."""
        self.plan.append(Fault(action, **how))  # type: ignore[arg-type]  # names and types are those of Fault's fields

    def requests(self, method: str, path: str = "") -> list[tuple[str, str, str | None]]:
        """Logged requests of a method: method, path, Range."""
        return [entry for entry in self.log if entry[0] == method and re.search(path, entry[1])]


@pytest.fixture
def faults(moto_endpoint: str, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """Put the proxy between this test and its server."""
    with proxy_before(moto_endpoint) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url)
        yield faults


@contextmanager
def proxy_before(endpoint: str) -> Iterator[Faults]:
    """A proxy before any server. Signatures stay valid: the Host that a client names is what the server sees."""
    server = _Proxy(endpoint.removeprefix("http://"))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.faults
    server.shutdown()
    server.server_close()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.faults = Faults(f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as they were given


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # the base class looks for do_GET, do_PUT, …
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults = self.server.faults
        fault = next((fault for fault in faults.plan if fault.matches(self.command, self.path)), None)
        if fault is None and faults.storm is not None:
            fault = faults.storm.next()
        faults.log.append((self.command, self.path, self.headers.get("Range")))
        self._tell(done=False)
        action = fault.action if fault is not None else "none"
        if action in ("status", "reset"):
            return self._fail(fault)
        headers, data, status = self._forward(body, unconditional=action == "unconditional")
        if status < http.HTTPStatus.BAD_REQUEST:
            self._tell(done=True)
        if action in ("status_after", "reset_after"):
            return self._fail(fault)
        if action == "slow":
            time.sleep(SLOW_SECONDS)
        if action == "corrupt" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if fault is not None and action == "rewrite":
            data = data.replace(fault.old.encode(), fault.new.encode())
        if action == "short":
            data = data[: len(data) // 2]
        return self._answer(status, headers, data, cut=action == "truncate")

    def _tell(self, *, done: bool) -> None:
        if self.server.faults.witness is not None:
            self.server.faults.witness(self.command, self.path, done)

    def _forward(self, body: bytes, *, unconditional: bool) -> tuple[list[tuple[str, str]], bytes, int]:
        dropped = "If-None-Match" if unconditional else None
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        given = {name: value for name, value in self.headers.items() if name != dropped}
        upstream.request(self.command, self.path, body, given)
        reply = upstream.getresponse()
        data = reply.read()
        upstream.close()
        return reply.getheaders(), data, reply.status

    def _fail(self, fault: Fault | None) -> None:
        assert fault is not None
        if fault.action.startswith("reset"):
            return self._reset()
        text = f'<?xml version="1.0"?><Error><Code>{fault.code}</Code><Message>{SECRET}?</Message></Error>'
        return self._answer(fault.status, [("Content-Type", "application/xml")], text.encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing: requests are in the log of the fixture."""

    def finish(self) -> None:
        """Flush only what is still connected."""
        if self.connection.fileno() >= 0:
            super().finish()
