"""Training in two processes that a stage starts: one is killed, and what comes out is what comes out without."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datasets.store import Manifest, Store
from tests.ceph import free_port
from tests.processes import Marked
from tests.tasks.forker import Forker
from tests.tasks.runs import Run
from tests.tiny import Published, build, tiny_config, write_preset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STAGE_OF = {"tokenizer": "train_tokenizer", "prior": "train_prior"}
#: Long enough to be killed in the middle.
NUM_STEPS = {"tokenizer": 40, "prior": 200}
NUM_PROCESSES = 2


@dataclass(frozen=True)
class Trainer:
    """Begins runs that train what their stores lack."""

    published: Published
    forker: Forker
    marked: Marked

    def start(self, kind: str, root: Path, **execution: Any) -> Run:
        """Begin one."""
        if not root.exists():
            self.published.without(kind, root)
        fields: dict[str, Any] = {f"{kind}__training__num_steps": NUM_STEPS[kind]}
        fields |= {f"{kind}__execution__{name}": value for name, value in execution.items()}
        number = len(list(root.parent.glob("*.yaml")))
        preset = write_preset(root.parent / f"{number}.yaml", root, self.published.source, **fields)
        journal = root.parent / f"{number}.jsonl"
        return Run.start(self.forker, self.marked, preset, journal, root, STAGE_OF[kind])


@pytest.fixture
def trainer(published: Published, forker: Forker, marked: Marked) -> Trainer:
    return Trainer(published, forker, marked)


def _made(kind: str, root: Path) -> Manifest:
    (manifest,) = Store.open(str(root)).artifacts(kind)
    return manifest


def _files(kind: str, root: Path) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in _made(kind, root).files}


def _ranks(run: Run) -> list[int]:
    """The processes that the launcher has started, in that order."""
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _reached(run: Run) -> int:
    """The step of the newest checkpoint."""
    names = [path.name for path in run.root.glob("work/*/*/checkpoint-*.pt")]
    return max((int(name.split("-")[3]) for name in names), default=0)


@pytest.fixture(scope="module")
def wholes(published: Published, forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """What two processes train that nobody kills."""
    marked, roots = Marked(), {kind: tmp_path_factory.mktemp(kind) / "whole" for kind in STAGE_OF}
    try:
        for kind, root in roots.items():
            run = Trainer(published, forker, marked).start(kind, root, num_processes=NUM_PROCESSES)
            run.finish()
            assert run.said(f"{NUM_PROCESSES} processes train")
            assert not run.said("goes on at step")
            assert _made(kind, root).summary["steps"] == NUM_STEPS[kind]
        marked.assert_gone()
        yield roots
    finally:
        marked.stop_all()


@pytest.mark.parametrize("kind", ["prior", "tokenizer"])
def test_a_killed_process_changes_nothing(
    kind: str, wholes: dict[str, Path], trainer: Trainer, tmp_path: Path, marked: Marked
) -> None:
    killed = trainer.start(kind, tmp_path / "killed", num_processes=NUM_PROCESSES)
    assert killed.wait_until(lambda: _reached(killed) >= 10)
    ranks = _ranks(killed)
    assert len(ranks) == NUM_PROCESSES
    os.kill(ranks[1], signal.SIGKILL)
    killed.finish()
    assert killed.said(f"of {NUM_STEPS[kind]}, the last checkpoint of an earlier run")
    assert _files(kind, tmp_path / "killed") == _files(kind, wholes[kind])
    marked.assert_gone()


def test_sigterm_writes_a_checkpoint_and_one_process_goes_on(trainer: Trainer, tmp_path: Path, marked: Marked) -> None:
    """The two hold a half of the weights each; the one has all of them."""
    root = tmp_path / "store"
    two = {"num_processes": NUM_PROCESSES, "shard_weights": True, "checkpoint_every_steps": 1000}
    run = trainer.start("prior", root, **two)
    assert run.wait_until(lambda: any(entry.get("done", 0) >= 1 for entry in run.entries))
    run.process.send(signal.SIGTERM)
    run.process.wait(60)
    assert "TrainingInterrupted: stopped at step" in run.process.errors, run.process.errors
    assert 0 < _reached(run) < NUM_STEPS["prior"]
    marked.assert_gone()
    alone = trainer.start("prior", root)
    alone.finish()
    assert alone.said("goes on at step")
    assert _made("prior", root).summary["steps"] == NUM_STEPS["prior"]


def test_two_machines_meet(wholes: dict[str, Path], trainer: Trainer, tmp_path: Path) -> None:
    """The same run started twice: the second finds the first at work, and joins it."""
    together = {"num_nodes": 2, "rendezvous": f"127.0.0.1:{free_port()}"}
    one, other = (trainer.start("prior", tmp_path / "store", **together) for _ in range(2))
    one.finish()
    other.finish()
    refs = [
        next(entry["ref"] for entry in run.entries if entry.get("stage") == "train_prior" and "ref" in entry)
        for run in (one, other)
    ]
    assert refs[0] == refs[1]
    assert one.said("2 processes train")
    assert other.said("2 processes train")
    assert one.said("computes this; waiting for it") or other.said("computes this; waiting for it")
    assert _files("prior", tmp_path / "store") == _files("prior", wholes["prior"])


def test_processes_that_die_every_time_end_the_run(trainer: Trainer, tmp_path: Path, marked: Marked) -> None:
    run = trainer.start("prior", tmp_path / "store", num_processes=NUM_PROCESSES, max_restarts=0)
    assert run.wait_until(lambda: _reached(run) >= 5)
    os.kill(_ranks(run)[0], signal.SIGKILL)
    assert run.process.wait(60) != 0
    assert "a process of the training died more than 0 times: " in run.process.errors
    marked.assert_gone()


def test_a_batch_that_has_no_equal_shares_is_refused_at_once(published: Published, tmp_path: Path) -> None:
    store = published.without("prior", tmp_path / "store")
    uneven = {"prior__training__batch_size": 9, "prior__execution__num_processes": NUM_PROCESSES}
    with pytest.raises(ValueError, match="cannot take an equal share of a batch of 9"):
        build(tiny_config(store.root, store.source, **uneven), "train_prior")
