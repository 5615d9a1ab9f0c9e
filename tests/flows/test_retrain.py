"""Scheduled retrainings in a row: unchanged, more of the same, drifted. Each does what the images ask for, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.store import ArtifactRef, Store
from datasets.store.pointers import current
from flows.retrain import retrain
from flows.run import Ledger, current_ledger
from tests.tiny import NUM_DIGITS, Recorder, write_digits, write_preset

pytestmark = [pytest.mark.usefixtures("harness"), pytest.mark.slow]
NUM_MORE = NUM_DIGITS // 10
#: What is promoted is no question of this test, but of the gates'.
EASY = {
    "promote__min_usage": 0.0, "promote__max_psnr_loss_db": 50.0, "promote__max_nll_rise": 50.0,
    "retrain__prior_steps_fraction": 0.25, "retrain__tokenizer_steps_fraction": 0.5, "retrain__max_drift_bits": 0.01,
}  # fmt: skip


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(Recorder())
    token = current_ledger.set(ledger)
    yield ledger
    current_ledger.reset(token)


class Nights:
    """A source that changes, and what a night makes of it."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.source = write_digits(folder / "images", NUM_DIGITS)
        self.root = folder / "store"
        self.preset = write_preset(folder / "tiny.yaml", self.root, self.source, **EASY)
        self._ledger = ledger

    @property
    def store(self) -> Store:
        return Store.open(str(self.root))

    def night(self) -> tuple[dict[str, Any], dict[str, str], int]:
        """Run it; the result, the state of each stage's last run, and how many objects were written beside records."""
        self._ledger.outcomes.clear()
        before = self._objects()
        result: dict[str, Any] = retrain(preset=str(self.preset))
        states = {stage: state for stage, state, _ in self._ledger.outcomes}
        return result, states, len(self._objects() - before)

    def made(self, stage: str) -> ArtifactRef:
        """What a stage made last night."""
        return [ref for name, _, ref in self._ledger.outcomes if name == stage][-1]

    def steps(self, stage: str) -> int:
        """How many steps a training stage took last night."""
        return int(self.store.get(self.made(stage)).manifest.summary["steps"])

    def parts(self, kind: str) -> int:
        """How many parts of a kind there are."""
        return sum(1 for path in (self.root / "parts" / kind).iterdir())

    def _objects(self) -> set[str]:
        skipped = {"records", "claims"}
        return {
            str(p) for p in self.root.rglob("*") if p.is_file() and p.relative_to(self.root).parts[0] not in skipped
        }


def test_three_courses(tmp_path: Path, ledger: Ledger) -> None:
    nights = Nights(tmp_path, ledger)

    result, states, _ = nights.night()
    assert (result["course"], result["promoted"]) == ("first", True)
    assert set(states.values()) == {"Completed"}
    shards, token_files = nights.parts("corpus"), nights.parts("tokens")

    # Nothing new: nothing is computed and nothing written.
    result, states, written = nights.night()
    assert (result["course"], states, written) == ("unchanged", {"shard": "Cached"}, 0)

    # A tenth more: one new unit of the corpus, its tokens, and a quarter of the prior's steps; no tokenizer.
    write_digits(nights.source, NUM_DIGITS + NUM_MORE, start=NUM_DIGITS)
    result, states, _ = nights.night()
    assert (result["course"], result["promoted"]) == ("grown", True)
    assert "train_tokenizer" not in states
    assert nights.parts("corpus") == shards + 1
    assert nights.parts("tokens") - token_files <= 4, "at most a shard of each split, in two views"
    assert nights.steps("train_prior") == 10
    now = current(nights.store, "tiny")
    assert now is not None
    assert now.artifact.fingerprint == result["fingerprint"]

    # And again: served from the store.
    result, states, written = nights.night()
    assert (result["course"], states, written) == ("unchanged", {"shard": "Cached"}, 0)

    # Negatives of digits: the tokenizer trains on for half its steps, all shards are encoded anew, the prior is new.
    shards = nights.parts("corpus")
    _write_negatives(nights.source, NUM_DIGITS // 2)
    result, states, _ = nights.night()
    assert (result["course"], result["promoted"]) == ("drifted", True)
    assert nights.steps("train_tokenizer") == 15
    assert nights.steps("train_prior") == 40
    assert nights.parts("corpus") - shards == 3, "forty images in each"


def _write_negatives(folder: Path, count: int) -> None:
    """Black digits on white, where all others are white on black."""
    for path in sorted(folder.rglob("*.png"))[:count]:
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path.with_name(f"negative-{path.name}"))
