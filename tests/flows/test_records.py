"""Records of finished stages: a small reference, and nothing that another could have put there is executed."""

from __future__ import annotations

import base64
import json
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.results import ResultRecord

from datasets.config import StoreConfig
from datasets.store import ArtifactRef, InputRef, Store
from tasks import orchestrate
from tasks.orchestrate import Outcome
from tasks.records import StageRecords, record_name
from tasks.stage import Product, Request, Stage, Work

NAME = record_name("corpus", "ab" * 32)
REFERENCE = {"kind": "corpus", "fingerprint": "ab" * 32, "digest": "cd" * 32, "uri": "/somewhere"}


@dataclass
class _Touch:
    """Unpickled, it makes a file."""

    path: str

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def _pickled(path: Path) -> str:
    return base64.b64encode(pickle.dumps(_Touch(str(path)))).decode()


def _pickle_envelope(path: Path) -> dict[str, Any]:
    return {"metadata": {"serializer": {"type": "pickle"}}, "result": _pickled(path)}


def _old_envelope(path: Path) -> dict[str, Any]:
    """Prefect's former form: what stands beside the metadata wins over it."""
    return {"metadata": {"serializer": {"type": "json"}}, "serializer": {"type": "pickle"}, "result": _pickled(path)}


def _decoder_envelope(path: Path) -> dict[str, Any]:
    """Every object of the JSON is handed to a function that the envelope names."""
    serializer = {"type": "json", "object_decoder": "subprocess.Popen"}
    return {"metadata": {"serializer": serializer}, "result": json.dumps({"touch": 1, str(path): 2})}


EVIL = [_pickle_envelope, _old_envelope, _decoder_envelope]
ODD = {
    "no JSON": b"\x80\x04.",
    "nothing": b"",
    "another type": b"[1]",
    "no result": b'{"metadata": {}}',
    "a class": json.dumps({"result": json.dumps({"__class__": "pathlib.Path", "data": "/"})}).encode(),
    "an exception": json.dumps({"result": json.dumps({"__exc_type__": "ValueError", "message": "x"})}).encode(),
    "more than a reference": json.dumps({"result": json.dumps({**REFERENCE, "more": 1})}).encode(),
    "another artifact": json.dumps({"result": json.dumps({**REFERENCE, "fingerprint": "ff" * 32})}).encode(),
}


def _made(path: Path) -> bool:
    """Whether the file is there, or comes within the moment that a child process takes."""
    for _ in range(20):
        if path.exists():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def records(tmp_path: Path) -> StageRecords:
    return StageRecords(url=str(tmp_path / "store"))


@pytest.mark.parametrize("envelope", EVIL)
def test_what_prefect_would_execute_is_refused(
    records: StageRecords, tmp_path: Path, envelope: Callable[[Path], dict[str, Any]]
) -> None:
    proof = tmp_path / "executed"
    content = json.dumps(envelope(proof)).encode()
    ResultRecord.deserialize(content)  # this is what Prefect does with what it is given
    assert _made(proof), "the envelope is harmless, so refusing it proves nothing"
    proof.unlink()
    records.write_path(NAME, content)
    with pytest.raises(ValueError, match="refused the record corpus-abab"):
        records.read_path(NAME)
    assert not _made(proof)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_what_is_no_reference_is_refused(records: StageRecords, content: bytes) -> None:
    records.write_path(NAME, content)
    with pytest.raises(ValueError, match="refused the record"):
        records.read_path(NAME)


def test_of_a_record_only_the_reference_is_believed(records: StageRecords) -> None:
    serializer = {"type": "json", "object_decoder": "subprocess.Popen", "jsonlib": "os"}
    envelope = {"metadata": {"serializer": serializer, "storage_key": "../elsewhere"}, "result": json.dumps(REFERENCE)}
    records.write_path(NAME, json.dumps(envelope).encode())
    record: ResultRecord[Any] = ResultRecord.deserialize(records.read_path(NAME))
    assert record.result == REFERENCE
    assert record.metadata.serializer.type == "json"
    assert record.metadata.storage_key == NAME


def test_nothing_else_is_kept_in_the_store(records: StageRecords, tmp_path: Path) -> None:
    records.write_path("817258900eb84dbb80d353018a312c09", b"an exception")
    assert not (tmp_path / "store").exists()


# ---- and the same with Prefect around it


class Counted:
    """A stage that is built in no time, and counts how often."""

    def __init__(self, root: Path) -> None:
        self.config = StoreConfig(url=str(root))
        self.built = 0
        source = InputRef(kind="source", fingerprint="ab" * 32, digest="ab" * 32)
        self.request = Request(Stage("shard", "1", "corpus"), {"size_px": 8}, (source,), self._build, "shard · tiny")

    @property
    def store(self) -> Store:
        return Store.open(self.config)

    @property
    def record(self) -> Path:
        return Path(self.config.url) / "records" / record_name("corpus", self.request.fingerprint)

    def _build(self, _work: Work) -> Product:
        self.built += 1
        return Product(files={"index": b"1", "classes": b"22"}, summary={"headline": "one"})

    def run(self) -> Outcome:
        @flow
        def one_stage() -> Outcome:
            return orchestrate.run(self.request, self.config, "tiny")

        return one_stage()


@pytest.fixture
def counted(harness: str, tmp_path: Path) -> Counted:
    return Counted(tmp_path / "store")


def test_a_stage_is_completed_and_then_cached(counted: Counted) -> None:
    first, second = counted.run(), counted.run()
    assert (first[:2], second[:2]) == (("shard", "Completed"), ("shard", "Cached"))
    assert first[2] == second[2] == counted.store.get(first[2]).ref
    assert counted.built == 1
    assert json.loads(json.loads(counted.record.read_bytes())["result"]) == first[2].model_dump(mode="json")


def test_a_record_without_its_artifact_is_no_hit(counted: Counted) -> None:
    _, _, ref = counted.run()
    for name in ("index", "manifest.json"):
        (Path(ref.uri) / name).unlink()
        assert counted.record.exists()
        assert counted.run() == ("shard", "Completed", ref)
        assert counted.run() == ("shard", "Cached", ref)
    assert counted.built == 3


def test_an_artifact_without_its_record_is_not_built_again(counted: Counted) -> None:
    """As after a run without Prefect, or in a store that was copied without its records."""
    _, _, ref = counted.run()
    counted.record.unlink()
    assert counted.run()[2] == ref
    assert counted.built == 1
    assert counted.record.exists()


@pytest.mark.parametrize("envelope", EVIL)
def test_a_poisoned_record_is_refused_and_written_again(
    counted: Counted, tmp_path: Path, envelope: Callable[[Path], dict[str, Any]]
) -> None:
    proof = tmp_path / "executed"
    _, _, ref = counted.run()
    good = counted.record.read_bytes()
    counted.record.write_bytes(json.dumps(envelope(proof)).encode())
    assert counted.run() == ("shard", "Completed", ref)
    assert not _made(proof)
    assert counted.built == 1
    assert json.loads(counted.record.read_bytes())["result"] == json.loads(good)["result"]
    assert counted.run() == ("shard", "Cached", ref)


def test_a_record_that_names_another_digest_is_not_believed(counted: Counted) -> None:
    """What a stage returns is what the store holds, whatever a record says."""
    _, _, ref = counted.run()
    other = ArtifactRef(**{**ref.model_dump(), "digest": "0" * 64, "uri": "s3://elsewhere/x"})
    counted.record.write_text(json.dumps({"result": other.model_dump_json()}))
    assert counted.run()[2] == ref
