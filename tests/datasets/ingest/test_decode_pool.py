"""Contract: an image that kills or hangs its decoder costs that image only; children are light and leave no orphans."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image

from datasets.config import ShardConfig, ShardExecution
from datasets.ingest import decode_pool
from datasets.ingest.canonical import CanonicalImage, Recipe, Unusable
from datasets.ingest.decode_pool import DecodePool
from tests.datasets.ingest.child_functions import abort, hang, modules, pid

RECIPE = Recipe.of(ShardConfig(size_px=16))


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_crash_costs_one_image() -> None:
    with DecodePool(ShardExecution(num_processes=2)) as pool:
        calls = [pool.call(abort) if i % 8 == 3 else pool.decode(png(), "x.png", RECIPE) for i in range(24)]
        outcomes = [pool.outcome(call) for call in calls]
    crashed = [outcome for outcome in outcomes if isinstance(outcome, Unusable)]
    assert [outcome.reason for outcome in crashed] == ["crash"] * 3
    assert all("died" in outcome.detail for outcome in crashed)
    assert sum(isinstance(outcome, CanonicalImage) for outcome in outcomes) == 21


def test_the_death_of_an_idle_child_costs_no_image() -> None:
    """Pebble gives up its whole pool when a child dies of which it does not know a task."""
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        os.kill(pool.result(pool.call(pid)), signal.SIGKILL)
        calls = [pool.decode(png(), "x.png", RECIPE) for _ in range(8)]
        time.sleep(1)  # it has been noticed by now: later calls find a broken pool
        calls += [pool.decode(png(), "x.png", RECIPE) for _ in range(8)]
        assert all(isinstance(pool.outcome(call), CanonicalImage) for call in calls)


def test_what_kills_a_pool_of_its_own_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "_FRESH_POOLS", 0)  # as after so many pools that broke under a call
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        culprit, neighbour = pool.outcome(pool.call(abort)), pool.outcome(pool.decode(png(), "x.png", RECIPE))
    assert isinstance(culprit, Unusable)
    assert culprit.reason == "crash"
    assert isinstance(neighbour, CanonicalImage)


def test_a_hang_costs_one_image_and_its_time_limit() -> None:
    with DecodePool(ShardExecution(num_processes=1, decode_timeout_seconds=2)) as pool:
        slow, fast = pool.call(hang), pool.decode(png(), "x.png", RECIPE)
        outcome = pool.outcome(slow)
        assert isinstance(outcome, Unusable)
        assert (outcome.reason, outcome.detail) == ("timeout", "decoding took over 2 s")
        assert isinstance(pool.outcome(fast), CanonicalImage)


def test_an_error_of_the_decoder_is_a_reason(pool: DecodePool) -> None:
    outcome = pool.outcome(pool.decode(png()[:60], "x.png", RECIPE))
    assert isinstance(outcome, Unusable)
    assert outcome.reason == "undecodable"
    outcome = pool.outcome(pool.decode(b"text", "x.png", RECIPE))
    assert isinstance(outcome, Unusable)
    assert outcome.reason == "not_an_image"


def test_children_are_light(pool: DecodePool) -> None:
    imported = set(pool.result(pool.call(modules)))
    assert "datasets.ingest.canonical" in imported
    assert not imported & {"torch", "prefect", "pyarrow", "fsspec", "sklearn", "pytest"}


def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import time
        from datasets.config import ShardExecution
        from datasets.ingest.decode_pool import DecodePool
        from tests.datasets.ingest.child_functions import hang, pid

        if __name__ == "__main__":
            pool = DecodePool(ShardExecution(num_processes=1))
            print(pool.result(pool.call(pid)), flush=True)
            pool.call(hang)
            time.sleep(600)
        """)
    )
    root = str(Path(__file__).resolve().parents[3])
    command, environment = [sys.executable, str(script)], os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("num_processes", [1, 3])
def test_as_many_children_as_told(num_processes: int) -> None:
    with DecodePool(ShardExecution(num_processes=num_processes)) as pool:
        assert pool.num_processes == num_processes
        calls = [pool.call(pid) for _ in range(30)]
        assert 1 <= len({pool.result(call) for call in calls}) <= num_processes


def test_a_pool_that_was_left_begins_nothing() -> None:
    """A thread that reads ahead may come too late; it ended the pool a second time, and began another."""
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        child = pool.result(pool.call(pid))
    assert not alive(child)
    with pytest.raises(RuntimeError, match="this decode pool was left"):
        pool.call(pid)
