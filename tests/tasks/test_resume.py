"""A stage that is stopped anywhere goes on where it was: it does what is missing, and ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.store import Store, Workspace
from tasks.pipeline import Pipeline
from tasks.stage import execute
from tests.tiny import Published, Recorder, Stopped, build, contents
from vqgan_core.training import TrainingInterrupted

#: For each stage: kind, number of updates of a whole run, and what is written for each unit.
UNITS = {"shard": ("corpus", 6), "encode": ("tokens", 24), "sample": ("samples", 4), "evaluate": ("evaluation", 4)}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of all parts and pieces that are written from here on; they are really written."""
    names: list[str] = []

    def watch(owner: type, method: str, name_of: Callable[..., str]) -> None:
        original = getattr(owner, method)

        def watched(self: Any, *arguments: Any, **named: Any) -> Any:
            names.append(name_of(*arguments))
            return original(self, *arguments, **named)

        monkeypatch.setattr(owner, method, watched)

    watch(Store, "put_part", lambda _kind, key, *_: key)
    watch(Workspace, "put", lambda name, _data: name)
    return names


def _run(copy: Published, stage: str, recorder: Recorder) -> str:
    store = Store.open(copy.config.store)
    return execute(Pipeline(copy.config).request(stage), store, recorder).digest


@pytest.mark.parametrize("stage", UNITS)
def test_a_restart_does_only_what_is_missing(
    published: Published, tmp_path: Path, stage: str, written: list[str]
) -> None:
    kind, num_units = UNITS[stage]
    copy = published.without(kind, tmp_path / "store")
    stop = random.Random(stage).randrange(1, num_units)
    if stage == "shard":  # it counts images, too: stop in the middle of a unit
        stop = 55
    with pytest.raises(Stopped):
        _run(copy, stage, Recorder(stop))
    first = list(written)
    assert 0 < len(first) < num_units or stage == "evaluate"
    written.clear()
    assert _run(copy, stage, Recorder()) == published.artifacts[kind].manifest.digest
    assert not set(first) & set(written)
    assert len({*first, *written}) == len(first) + len(written) == num_units + 2 * (stage == "evaluate")
    assert contents(Store.open(copy.config.store)) == {
        name: content for name, content in contents(Store.open(published.config.store)).items()
        if name in contents(Store.open(copy.config.store))
    }  # fmt: skip
    assert Store.open(copy.config.store).storage.find("work") == {}


@pytest.mark.parametrize(("stage", "kind", "every"), [("train_tokenizer", "tokenizer", 5), ("train_prior", "prior", 5)])
def test_training_goes_on_from_its_last_checkpoint(
    published: Published, tmp_path: Path, stage: str, kind: str, every: int
) -> None:
    copy = published.without(kind, tmp_path / "store")
    done = 0
    for stop in (3, 9, 12):  # steps after the restart, so stops come at different places between checkpoints
        recorder = Recorder(stop)
        with pytest.raises(Stopped):
            _run(copy, stage, recorder)
        first, last = recorder.updates[0][1], recorder.updates[-1][1]
        assert first == done // every * every + 1
        done = last - 1  # the update of a step comes before its checkpoint
    recorder = Recorder()
    assert _run(copy, stage, recorder) == published.artifacts[kind].manifest.digest
    assert recorder.updates[0][1] == done // every * every + 1
    assert Store.open(copy.config.store).storage.find("work") == {}


def test_sigterm_writes_a_checkpoint_and_stops(published: Published, tmp_path: Path) -> None:
    copy = published.without("tokenizer", tmp_path / "store")
    before = signal.getsignal(signal.SIGTERM)

    class Terminates(Recorder):
        def add(self, label: str, done: int) -> None:
            super().add(label, done)
            if done == 13:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted, match="13") as caught:
        _run(copy, "train_tokenizer", Terminates())
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) == before
    names = Store.open(copy.config.store).storage.find("work")
    assert any("000000013" in name for name in names)
    recorder = Recorder()
    assert _run(copy, "train_tokenizer", recorder) == published.artifacts["tokenizer"].manifest.digest
    assert recorder.updates[0][1] == 14


def test_execution_settings_change_no_byte(published: Published, tmp_path: Path) -> None:
    overrides = {
        "shard__execution__num_processes": 2,
        "tokenizer__execution__checkpoint_every_steps": 8,
        "tokenizer__execution__cache_bytes": 0,
        "encode__execution__batch_size": 7,
        "prior__execution__token_memory_bytes": 0,
        "sample__execution__batch_size": 3,
        "evaluate__execution__batch_size": 16,
    }
    copy = published.copy(tmp_path / "store", **overrides)
    for area in (*published.artifacts, "parts"):
        (copy.root / area).rename(tmp_path / area)
    build(copy.config)
    here, there = contents(Store.open(copy.config.store)), contents(Store.open(published.config.store))
    # The evaluation's sums are taken batch by batch, in floating point: its last digits may differ.
    assert {kind: here[kind] for kind in here if kind != "evaluation"} == {
        kind: there[kind] for kind in there if kind != "evaluation"
    }
    assert here["evaluation"]["fingerprint"] == there["evaluation"]["fingerprint"]
