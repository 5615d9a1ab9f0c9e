"""SIGKILL at random moments in every stage: what comes out in the end has the bytes of a run that was never killed."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from datasets.store import Store
from tasks.checkpoints import newest_step
from tests.processes import Marked
from tests.tasks.forker import Forker
from tests.tasks.runs import Run
from tests.tiny import KINDS, STAGES, Published, contents, write_preset

KILLS_A_STAGE = 2
#: A dead run on the same host is replaced at once; a waiter that does not know it dead would wait 45 s.
MOST_SECONDS_TO_GO_ON = 15.0
TRAINS = {"tokenizer": "train tokenizer", "prior": "train prior"}
STAGE_OF = dict(zip(KINDS, STAGES, strict=True))


@dataclass
class Kill:
    """What was there when a run was killed."""

    kind: str
    inside: bool
    step: int
    parts: dict[Path, int]


class Killer:
    """Kills runs over one store, one after another."""

    def __init__(self, folder: Path, config: Path, forker: Forker, marked: Marked, chance: random.Random) -> None:
        self.root, self.kills = folder / "store", list[Kill]()
        self._folder, self._config, self._chance = folder, config, chance
        self._forker, self._marked = forker, marked
        self._runs = 0

    def start(self) -> Run:
        """Start the pipeline."""
        self._runs += 1
        journal = self._folder / f"journal-{self._runs:02d}.jsonl"
        return Run.start(self._forker, self._marked, self._config, journal, self.root)

    def kill_inside(self, kind: str, most_updates: int, most_seconds: float) -> Run:
        """Start a run and kill it after some updates and some time inside a stage."""
        run = self.start()
        updates, seconds = self._chance.randint(0, most_updates), self._chance.uniform(0, most_seconds)
        run.wait_until(lambda: run.holds(kind))
        before = len(run.entries)
        run.wait_until(lambda: not run.holds(kind) or len(run.entries) >= before + updates)
        time.sleep(seconds)
        if run.kill():
            self.kills.append(self._what_is_left(kind))
            print(f"  {kind}: {updates} updates + {seconds:.3f} s -> inside: {self.kills[-1].inside}")  # noqa: T201
        return run

    def _what_is_left(self, kind: str) -> Kill:
        store = Store.open(str(self.root))
        published = {manifest.kind for manifest in store.artifacts()}
        assert store.verify() == []
        work = list(self.root.glob(f"work/{kind}/*"))
        step = newest_step(store.workspace(kind, work[0].name)) if work and kind in TRAINS else -1
        whole = [path.parent for path in self.root.glob("parts/*/*/part.json")]
        parts = {path: path.stat().st_mtime_ns for folder in whole for path in folder.iterdir()}
        return Kill(kind, kind not in published, step, parts)


def _check_that_it_went_on(kill: Kill, run: Run) -> None:
    """The run after a kill waits for nobody, and repeats nothing but the steps after the last checkpoint."""
    entries = run.entries
    asked = next(entry["time"] for entry in entries if entry.get("stage") == STAGE_OF[kill.kind])
    opened = [entry["time"] for entry in entries if entry["event"] == "open"]
    assert opened[0] - asked < MOST_SECONDS_TO_GO_ON
    assert not any(entry["event"] == "say" and "waiting" in entry["message"] for entry in entries)
    built = [entry["label"] for entry in entries if entry["event"] == "open"]
    assert len(built) == len(set(built)), "a stage was begun twice"
    if kill.step >= 0 and (label := TRAINS[kill.kind]):
        steps = [entry["done"] for entry in entries if entry["event"] == "update" and entry["label"] == label]
        assert not steps or steps[0] == kill.step + 1
    for path, modified in kill.parts.items():
        assert path.stat().st_mtime_ns == modified, f"{path} was made again"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_change_nothing(published: Published, tmp_path: Path, marked: Marked, forker: Forker) -> None:
    seed = secrets.randbelow(2**32)
    print(f"random.Random({seed})")  # noqa: T201 - shown when the test fails
    config = write_preset(tmp_path / "tiny.yaml", tmp_path / "store", published.source)
    killer = Killer(tmp_path, config, forker, marked, random.Random(seed))
    for kind in KINDS:
        for number in range(KILLS_A_STAGE):
            before = killer.kills[-1] if killer.kills else None
            run = killer.kill_inside(kind, most_updates=2 + 4 * number, most_seconds=0.03 + 0.07 * number)
            marked.assert_gone()
            if before is not None and before.inside and any(entry["event"] == "open" for entry in run.entries):
                _check_that_it_went_on(before, run)
    assert len(killer.kills) >= 10
    assert {kill.kind for kill in killer.kills if kill.inside} == set(KINDS)

    last = killer.start()
    last.finish()
    if killer.kills[-1].inside:
        _check_that_it_went_on(killer.kills[-1], last)
    store = Store.open(str(tmp_path / "store"))
    assert contents(store) == contents(Store.open(published.config.store))
    assert store.verify() == []
    # A kill between publication and tidying leaves work behind, for gc to find.
    garbage = {item.path for item in store.gc(older_than_seconds=0)}
    assert set(store.storage.find("work")) <= garbage
    marked.assert_gone()
