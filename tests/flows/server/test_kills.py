"""Deaths of a run's process, and what becomes of the run while nobody touches it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from datasets.store import Store
from tests.flows.server.conftest import patience
from tests.flows.server.onlooker import Onlooker, kill, processes, send
from tests.flows.server.service import FINAL, Service, until
from tests.tiny import KINDS, Published, contents, write_preset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
#: In the middle: the tokenizer trains 30 steps, the prior 40.
MIDDLE = {"tokenizer": 12, "prior": 16}
TRAINED = ("tokenizer", "prior")
NEVER = 10**6
RETRY = "tessera-retry-crashed-runs"


def test_a_kill_in_every_stage(service: Service, published: Published, tmp_path: Path) -> None:
    """One run, killed in the middle of each of its six stages, ends as if nothing had been; no step is taken twice.

    A checkpoint a step: so the step of a checkpoint is the number of those that all processes wrote before it, as long
    as no process takes a step that is in one.
    """
    root, onlooker = tmp_path / "store", Onlooker(tmp_path / "store")
    every_step = {f"{kind}__execution__checkpoint_every_steps": 1 for kind in TRAINED}
    preset = write_preset(tmp_path / "tiny.yaml", root, published.source, **every_step)
    with patience(service, RETRY, seconds=10):
        run = service.start("end-to-end", preset=str(preset), store=str(root))
        reached = {kind: _killed_in(kind, run, onlooker) for kind in KINDS}
        until(lambda: _is_over(service, run), "its end, which a crash is not")

    row = service.run(run)
    assert row["state"]["name"] == "Completed", service.logs(run)
    assert row["run_count"] > len(KINDS), "each death was noticed, and the run went on by itself"
    assert contents(Store.open(str(root))) == contents(Store.open(str(published.root)))
    for kind in TRAINED:  # what they said may be lost: lines are sent every two seconds
        assert max(step for _, step in onlooker.written[kind]) > reached[kind], "the next process was seen to train"
        assert all(number == step for number, step in onlooker.written[kind]), sorted(onlooker.written[kind])
    assert "RUNNING" not in service.task_types(run), "the tasks of dead processes are swept"
    until(lambda: not processes(run), "the end of its process")


def _killed_in(kind: str, run: str, onlooker: Onlooker) -> int:
    """Kill the run as soon as a stage has left something that survives; of a training, returns its last step.

    Whom to kill is known before: small stages are over in less time than it takes to look through all processes.
    """
    process = until(lambda: processes(run), f"the process that begins {kind}")[0]

    def is_in_the_middle() -> bool:
        for trained in TRAINED:  # the one that was killed before, too, as it goes on
            onlooker.last_step(trained)
        return onlooker.has_begun(kind, MIDDLE.get(kind, 0))

    until(is_in_the_middle, f"partial work on {kind}", pause=0.002)
    kill(run, process)
    assert not onlooker.is_finished(kind), f"{kind} was finished before the kill"
    return onlooker.last_step(kind)


def _is_over(service: Service, run: str) -> bool:
    return service.run(run)["state"]["type"] in FINAL - {"CRASHED"}


def test_preemption_and_cancellation_write_a_checkpoint(
    service: Service, published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM: a checkpoint, and the run goes on from it. Cancelled in the UI: a checkpoint, and it stops."""
    root, onlooker = published.without("tokenizer", tmp_path / "store").root, Onlooker(tmp_path / "store")
    seldom = {"tokenizer__execution__checkpoint_every_steps": NEVER}
    preset = write_preset(tmp_path / "tiny.yaml", root, published.source, **seldom)
    with patience(service, RETRY, seconds=10):
        run = service.start("end-to-end", preset=str(preset), store=str(root), tokenizer_steps=NEVER)
        until(lambda: service.progress(run), "progress on the run's page")
        assert onlooker.last_step("tokenizer") == 0
        send(run, signal.SIGTERM)
        step = until(lambda: onlooker.last_step("tokenizer"), "the checkpoint of the preempted process")
        until(lambda: f"goes on at step {step} of {NEVER}" in service.logs(run), "the next process")
        until(lambda: len(service.progress(run)) > 1, "its progress")
    assert any(" steps/s · " in text and " left" in text for text in service.progress(run))

    asked = time.monotonic()
    answer = service.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    assert answer.status_code in {200, 201}, answer.text
    row = service.finished(run)
    until(lambda: not processes(run), "the end of its process")
    with capsys.disabled():
        sys.stdout.write(f"\ncancelled: checkpoint and end after {time.monotonic() - asked:.1f} s\n")
    assert row["state"]["type"] == "CANCELLED", service.history(run)
    assert onlooker.last_step("tokenizer") > step
    assert {manifest.kind for manifest in Store.open(str(root)).artifacts()} == {"corpus"}
