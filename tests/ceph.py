"""A real S3 server for tests: a Ceph cluster of one monitor, one disk in a file and a RADOS Gateway, on loopback.

It checks signatures, creates atomically, and its objects survive SIGKILL. `.ci/get_ceph.sh` unpacks Debian's packages
without root; where they are not, tests skip and name that command.

Use by importing the fixture: `from tests.ceph import ceph`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

KEY_ID, SECRET = "CEPHTESTKEY", "ceph-test-secret"
ROOT = Path(os.environ.get("TESSERA_CEPH", Path(__file__).resolve().parents[1] / ".ceph"))
_LIB = ROOT / "usr/lib/x86_64-linux-gnu"
_CLUSTER, _DISK = "11111111-2222-3333-4444-555555555555", "22222222-2222-3333-4444-555555555555"
_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_START_SECONDS = 400.0  # 20 on an idle machine
_CONFIG = """
[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{mon_port}
ms bind msgr2 = false
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
keyring = {state}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
run dir = {state}
admin socket = {state}/$name.asok
log file = {state}/$name.log
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd class dir = {lib}/rados-classes
compressor dir = {lib}/ceph/compressor
crypto dir = {lib}/ceph/crypto
setuser match path = /nonexistent
[mon]
mon data = {state}/mon
paxos propose interval = 0.05
paxos min wait = 0.02
mon cluster log file = {state}/cluster.log
mon data avail warn = 1
mon data avail crit = 0
[osd]
osd data = {state}/osd
osd objectstore = bluestore
bluestore block size = 4294967296
bluestore block create = true
osd memory target = 1073741824
osd client watch timeout = 3
[client.rgw]
rgw data = {state}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw run sync thread = false
"""


def free_port() -> int:
    """A port of loopback that nobody listens at now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Ceph:
    """The cluster: its processes, and where its gateway listens."""

    state: Path
    rgw_port: int = field(default_factory=free_port)
    mon_port: int = field(default_factory=free_port)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """URL of the gateway."""
        return f"http://127.0.0.1:{self.rgw_port}"

    def start(self) -> None:
        """Make the cluster and wait until its gateway answers."""
        for folder in ("mon", "osd", "rgw"):
            (self.state / folder).mkdir()
        values = {"cluster": _CLUSTER, "state": self.state, "lib": _LIB}
        text = _CONFIG.format(mon_port=self.mon_port, rgw_port=self.rgw_port, **values)
        (self.state / "ceph.conf").write_text(text)
        self._make_monitor()
        self._spawn("mon", "ceph-mon", "-i", "a")
        self._ceph("osd", "new", _DISK, "0")
        self._ceph("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", _DISK)
        self._spawn("osd", "ceph-osd", "-i", "0")
        self._spawn("rgw", "radosgw", "-n", "client.rgw")
        self.wait()
        user = ("--uid=test", "--display-name=test", f"--access-key={KEY_ID}", f"--secret-key={SECRET}")
        self._run("radosgw-admin", "-n", "client.rgw", "user", "create", *user)

    def wait(self) -> None:
        """Wait until the gateway answers."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                _WITHOUT_PROXY.open(self.endpoint, timeout=30).close()
                return
            except urllib.error.HTTPError:  # an answer, too
                return
            except OSError:
                self._look_after()
                assert time.monotonic() < deadline, f"no answer at {self.endpoint} after {_START_SECONDS:g} s"
                time.sleep(0.2)

    def _look_after(self) -> None:
        """Fail if a process has ended; a disk that met its monitor too early is told "wrong fsid", and tries again."""
        for name, process in tuple(self._processes.items()):
            if process.poll() is not None:
                said = self.state / f"{name}.out"
                text = said.read_text()
                assert name == "osd", f"{name} ended: {text[-2000:]}"
                assert "wrong fsid" in text, f"{name} ended: {text[-2000:]}"
                said.unlink()
                self._spawn("osd", "ceph-osd", "-i", "0")

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        options = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        settings = Config(s3={"addressing_style": "path"})
        boto3.client("s3", endpoint_url=self.endpoint, config=settings, **options).create_bucket(Bucket=name)

    def kill(self) -> None:
        """SIGKILL everything."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        self._processes.clear()

    def restart(self) -> None:
        """Start the killed cluster again, over the same disk."""
        self._spawn("mon", "ceph-mon", "-i", "a")
        self._spawn("osd", "ceph-osd", "-i", "0")
        self._spawn("rgw", "radosgw", "-n", "client.rgw")
        self.wait()

    def _make_monitor(self) -> None:
        keys, map_file = str(self.state / "keyring"), str(self.state / "monmap")
        for number, (name, *caps) in enumerate(
            (("mon.", "mon"), ("client.admin", "mon", "osd", "mgr"), ("client.rgw", "mon", "osd"), ("osd.0", "osd"))
        ):
            allowed = [word for cap in caps for word in ("--cap", cap, "allow *")]
            create = ("--create-keyring",) if number == 0 else ()
            self._run("ceph-authtool", *create, keys, "--gen-key", "-n", name, *allowed)
        address = f"[v1:127.0.0.1:{self.mon_port}]"
        self._run("monmaptool", "--create", "--fsid", _CLUSTER, "--addv", "a", address, map_file)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", keys)

    def _ceph(self, *arguments: str) -> None:
        """Debian's `ceph` command is a script for Debian's Python.

        A monitor that has just begun refuses commands for a moment; those that are given here may come twice.
        """
        command = ("/usr/bin/python3", str(ROOT / "usr/bin/ceph"), "--connect-timeout", "120", *arguments)
        deadline = time.monotonic() + _START_SECONDS
        while (error := self._error_of(command)) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not error, error

    def _run(self, *command: str) -> None:
        error = self._error_of(command)
        assert not error, error

    def _error_of(self, command: tuple[str, ...]) -> str:
        """What a command says if it fails; nothing if it does not."""
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        return f"{' '.join(command)}: {done.stderr[-2000:]}" if done.returncode else ""

    def _spawn(self, name: str, *command: str) -> None:
        with (self.state / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen([*command, "-f"], env=self._environment(), stdout=out, stderr=out)

    def _environment(self) -> dict[str, str]:
        libraries = (_LIB, _LIB / "ceph", ROOT / "lib/x86_64-linux-gnu")
        return {
            "PATH": f"{ROOT / 'usr/bin'}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONPATH": str(ROOT / "usr/lib/python3/dist-packages"),
            "CEPH_CONF": str(self.state / "ceph.conf"),
        }


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """The running cluster."""
    if not (ROOT / "usr/bin/radosgw").is_file():
        pytest.skip(f"no Ceph at {ROOT}: fetch it with .ci/get_ceph.sh")
    cluster = Ceph(tmp_path_factory.mktemp("ceph"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
