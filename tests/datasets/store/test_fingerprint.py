"""Names of what was asked for and of what came out."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from datasets.config import ShardConfig
from datasets.store import FileEntry, InputRef, digest_of, fingerprint
from tests.datasets.store.conftest import ROOT

ENTRIES = [FileEntry(path=name, bytes=1, sha256=letter * 64) for name, letter in (("b", "1"), ("a", "2"))]


def test_it_is_the_sha256_of_canonical_json() -> None:
    text = '{"inputs":["d1","d2"],"recipe":{"a":[1,2],"ü":0.5},"stage":"encode","stage_version":3}'
    assert fingerprint("encode", 3, {"ü": 0.5, "a": [1, 2]}, ["d1", "d2"]) == hashlib.sha256(text.encode()).hexdigest()


def test_each_ingredient_counts() -> None:
    names = {
        fingerprint("a", 1, {"x": 1}, ["d"]),
        fingerprint("b", 1, {"x": 1}, ["d"]),
        fingerprint("a", 2, {"x": 1}, ["d"]),
        fingerprint("a", 1, {"x": 2}, ["d"]),
        fingerprint("a", 1, {"x": 1}, ["e"]),
        fingerprint("a", 1, {"x": 1}, []),
        fingerprint("a", 1, {"x": 1}, ["d", "e"]),
        fingerprint("a", 1, {"x": 1}, ["e", "d"]),
    }
    assert len(names) == 8


def test_references_stand_for_their_digest() -> None:
    ref = InputRef(kind="corpus", fingerprint="f", digest="d" * 64)
    assert fingerprint("a", 1, {}, [ref]) == fingerprint("a", 1, {}, ["d" * 64])


@pytest.mark.parametrize("bad", [{"x": {1, 2}}, {"x": b"1"}, {"x": float("nan")}])
def test_what_has_no_canonical_form_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        fingerprint("a", 1, bad)


def test_it_does_not_depend_on_the_process() -> None:
    program = "from datasets.config import ShardConfig; from datasets.store import fingerprint\n"
    program += "print(fingerprint('shard', 1, ShardConfig().recipe()))"
    names = {fingerprint("shard", 1, ShardConfig().recipe())}
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        names.add(subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=env, text=True).strip())
    assert len(names) == 1


def test_digest_is_of_the_sorted_list() -> None:
    text = f'[["a","{"2" * 64}"],["b","{"1" * 64}"]]'
    assert digest_of(ENTRIES) == digest_of(ENTRIES[::-1]) == hashlib.sha256(text.encode()).hexdigest()
    assert digest_of(ENTRIES) != digest_of(ENTRIES[:1])
