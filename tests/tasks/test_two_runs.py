"""Two runs on one store at the same time: each artifact is built once, and both end with the same."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from datasets.store import Store
from tests.processes import Marked
from tests.tasks.forker import Forker
from tests.tasks.runs import Run
from tests.tiny import KINDS, Published, contents, write_preset

WAITS = "computes this; waiting for it"
#: Knowing that the other is dead takes a second; thinking it alive but silent, 45.
MOST_SECONDS_TO_TAKE_OVER = 25.0
LABELS = {"shard", "train tokenizer", "encode", "train prior", "sample", "evaluate", "classifier"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_artifact_is_built_once(published: Published, tmp_path: Path, marked: Marked, forker: Forker) -> None:
    root = tmp_path / "store"
    config = write_preset(tmp_path / "tiny.yaml", root, published.source)
    one, two = (Run.start(forker, marked, config, tmp_path / f"{name}.jsonl", root) for name in ("one", "two"))
    one.finish()
    two.finish()
    refs = [[entry["ref"] for entry in run.entries if entry["event"] == "have"] for run in (one, two)]
    assert refs[0] == refs[1]
    assert [ref["kind"] for ref in refs[0]] == list(KINDS)
    built = Counter(entry["label"] for entry in (*one.entries, *two.entries) if entry["event"] == "open")
    assert built == dict.fromkeys(LABELS, 1)
    assert one.said(WAITS) or two.said(WAITS)
    store = Store.open(str(root))
    assert contents(store) == contents(Store.open(published.config.store))
    assert store.verify() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_waiting_one_takes_over_when_the_other_is_killed(
    published: Published, tmp_path: Path, marked: Marked, forker: Forker
) -> None:
    root = tmp_path / "store"
    config = write_preset(tmp_path / "tiny.yaml", root, published.source)
    first = Run.start(forker, marked, config, tmp_path / "first.jsonl", root, "shard")
    assert first.wait_until(lambda: first.holds("corpus"))
    first.process.send(signal.SIGSTOP)  # it holds the claim and does not get on
    second = Run.start(forker, marked, config, tmp_path / "second.jsonl", root, "shard")
    assert second.wait_until(lambda: second.said(WAITS))
    assert second.said(f"process {first.process.pid}")
    killed = time.monotonic()
    assert first.kill()
    second.finish()
    assert time.monotonic() - killed < MOST_SECONDS_TO_TAKE_OVER
    assert contents(Store.open(str(root)))["corpus"] == contents(Store.open(published.config.store))["corpus"]
