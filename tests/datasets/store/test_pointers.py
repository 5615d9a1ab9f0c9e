"""Pointers: one switch at a time, nothing lost, nobody sees a half."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from datasets.store import ArtifactMissing, CorruptObject, Draft, InputRef, Store
from datasets.store.pointers import PointerMoved, current, history, names, promote
from tests.datasets.store.conftest import Spawn

PROMOTE = """
import sys
from datasets.store import InputRef, Store
from datasets.store.pointers import PointerMoved, promote
store = Store.open(sys.argv[1])
ref = InputRef(kind="prior", fingerprint=sys.argv[2], digest=sys.argv[3])
sys.stdin.readline()
try:
    print(promote(store, "faces", ref, why=sys.argv[4], instead_of=int(sys.argv[5])).number)
except PointerMoved:
    print("moved")
"""


def published(store: Store, letter: str) -> InputRef:
    return store.publish(Draft("prior", letter * 64, "s", 1, {}, files={"a": letter.encode()})).as_input()


def test_a_name_points_where_it_was_told(store: Store) -> None:
    first, second = published(store, "a"), published(store, "b")
    assert (current(store, "faces"), history(store, "faces"), names(store)) == (None, [], [])
    promote(store, "faces", first, why="by hand", figures={"PSNR": 29.5})
    promote(store, "faces", second, why="better")
    promote(store, "faces", first, why="back")
    promote(store, "hands", second)
    assert names(store) == ["faces", "hands"]
    now = current(store, "faces")
    assert now is not None
    assert (now.artifact, now.why, now.number) == (first, "back", 3)
    row = history(store, "faces")
    assert [(entry.artifact, entry.why) for entry in row] == [(first, "by hand"), (second, "better"), (first, "back")]
    assert row[0].figures == {"PSNR": 29.5}


def test_the_same_again_changes_nothing(store: Store) -> None:
    ref = published(store, "a")
    assert promote(store, "faces", ref) == promote(store, "faces", ref, why="again")
    assert len(history(store, "faces")) == 1


def test_only_what_is_published_can_be_pointed_to(store: Store) -> None:
    ref = published(store, "a")
    with pytest.raises(ArtifactMissing, match="there is no prior"):
        promote(store, "faces", InputRef(kind="prior", fingerprint="c" * 64, digest="c" * 64))
    with pytest.raises(ArtifactMissing, match="made again"):
        promote(store, "faces", InputRef(kind="prior", fingerprint=ref.fingerprint, digest="c" * 64))
    assert current(store, "faces") is None


def test_a_decision_about_something_else_is_refused(store: Store) -> None:
    first, second = published(store, "a"), published(store, "b")
    promote(store, "faces", first, instead_of=0)
    with pytest.raises(PointerMoved, match="at number 1, the decision was made at 0"):
        promote(store, "faces", second, instead_of=0)
    assert promote(store, "faces", second, instead_of=1).number == 2


@pytest.mark.parametrize("name", ["", "Faces", "a/b", "../x", "a b", "ü", "x" * 64])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    store = Store.open(str(tmp_path))
    with pytest.raises(ValueError, match="lower-case letters, digits and dashes"):
        promote(store, name, published(store, "a"))


def test_of_two_who_decide_at_once_one_is_told(shared_url: str, spawn: Spawn) -> None:
    """And of two who do not care, both are in the row."""
    store = Store.open(shared_url)
    refs = [published(store, letter) for letter in "ab"]
    children = [
        spawn(PROMOTE, shared_url, ref.fingerprint, ref.digest, f"child {number}", "0")
        for number, ref in enumerate(refs)
    ]
    said = [child.communicate("go\n", timeout=60)[0].strip() for child in children]
    assert sorted(said) == ["1", "moved"]
    assert [entry.why for entry in history(store, "faces")] == [f"child {said.index('1')}"]


def test_a_damaged_entry_is_told(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    promote(store, "faces", published(store, "a"))
    (tmp_path / "pointers/faces/000001.json").write_bytes(json.dumps({"name": "faces"}).encode())
    with pytest.raises(CorruptObject, match=r"pointers/faces/000001.json is no pointer's entry"):
        current(store, "faces")


def test_gc_takes_neither_a_pointer_nor_what_it_points_to(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    promote(store, "faces", published(store, "a"))
    time.sleep(0.01)
    assert store.gc(dry_run=False, older_than_seconds=0) == []
    now = current(store, "faces")
    assert now is not None
    assert store.get(now.artifact)
