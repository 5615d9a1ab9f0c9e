"""Deaths of a run's process, and what becomes of the run while nobody touches it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from datasets.store import Store
from tests.flows.server.service import Service, until
from tests.tiny import KINDS, Published, contents, write_preset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRAINED = {"tokenizer": "train tokenizer", "prior": "train prior"}
PIECES = {
    "corpus": "parts/corpus",
    "tokens": "parts/tokens",
    "samples": "work/samples",
    "evaluation": "work/evaluation",
}
MOST_SECONDS_TO_STOP = 30.0
NEVER = 10**6


def processes(run: str) -> list[int]:
    """The process of a run, wherever its worker is, and all that it started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT__FLOW_RUN_ID={run}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # gone meanwhile
    return found


def send(run: str, sign: signal.Signals) -> None:
    """Send a signal to all of them."""
    for pid in processes(run):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            continue


def last_step(root: Path, kind: str) -> int:
    """The last step that is in a checkpoint."""
    names = [path.name for path in (root / f"work/{kind}").rglob("checkpoint-*-step-*.pt")]
    return int(max(names).split("-")[3]) if names else 0


def begun(root: Path, kind: str) -> bool:
    """Whether a stage has left something that survives a kill."""
    return last_step(root, kind) > 0 if kind in TRAINED else any((root / PIECES[kind]).rglob("*.*"))


def test_a_kill_in_every_stage(service: Service, published: Published, tmp_path: Path) -> None:
    """One run, killed in the middle of each of its six stages, ends as if nothing had been."""
    root = tmp_path / "store"
    preset = write_preset(tmp_path / "tiny.yaml", root, published.source)
    run = service.start("end-to-end", preset=str(preset), store=str(root))
    reached = {}
    for kind in KINDS:
        until(lambda kind=kind: begun(root, kind), f"partial work on {kind}", pause=0.005)
        send(run, signal.SIGKILL)
        assert not any((root / kind).rglob("manifest.json")), f"{kind} was finished before the kill"
        if kind in TRAINED:
            reached[kind] = last_step(root, kind)
    row = service.finished(run)
    assert row["state"]["name"] == "Completed", service.logs(run)
    assert row["run_count"] == 1 + len(KINDS)
    assert contents(Store.open(str(root))) == contents(Store.open(str(published.root)))
    logs = service.logs(run)
    for kind, step in reached.items():
        assert f"{TRAINED[kind]}: goes on at step {step} of" in logs, "a step in a checkpoint is not trained again"
    assert "RUNNING" not in service.task_types(run), "the tasks of dead processes are swept"


def test_preemption_and_cancellation_write_a_checkpoint(service: Service, published: Published, tmp_path: Path) -> None:
    """SIGTERM: a checkpoint, and the run goes on from it. Cancelled in the UI: a checkpoint, and it stops."""
    root = tmp_path / "store"
    preset = write_preset(
        tmp_path / "tiny.yaml", root, published.source, tokenizer__execution__checkpoint_every_steps=NEVER
    )
    run = service.start("end-to-end", preset=str(preset), store=str(root), tokenizer_steps=NEVER)
    until(lambda: service.progress(run), "progress on the run's page")
    assert last_step(root, "tokenizer") == 0
    send(run, signal.SIGTERM)
    step = until(lambda: last_step(root, "tokenizer"), "the checkpoint of the preempted process")
    until(lambda: f"goes on at step {step} of {NEVER}" in service.logs(run), "the next process")
    until(lambda: len(service.progress(run)) > 1, "its progress")
    assert any(" steps/s · " in text and " left" in text for text in service.progress(run))

    asked = time.monotonic()
    answer = service.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    assert answer.status_code in {200, 201}, answer.text
    row = service.finished(run)
    until(lambda: not processes(run), "the end of its process")
    assert time.monotonic() - asked < MOST_SECONDS_TO_STOP, "not a measure of speed: beyond it, it is killed"
    assert (row["state"]["type"], row["run_count"]) == ("CANCELLED", 2)
    assert last_step(root, "tokenizer") > step
    assert {manifest.kind for manifest in Store.open(str(root)).artifacts()} == {"corpus"}
