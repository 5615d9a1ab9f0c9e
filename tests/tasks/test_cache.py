"""When a stage is served from the store, when it runs again, and what its name depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from datasets.store import Artifact, CorruptObject, Draft, InputRef, Lease, Store
from tasks.pipeline import STEPS, Pipeline
from tasks.stage import Product, Request, Stage, Work, execute
from tests.tiny import KINDS, STAGES, Published, build, contents, tiny_config

#: For each stage: a field of its recipe, another value, and a field of its execution.
FIELDS: dict[str, tuple[str, Any, str, Any]] = {
    "shard": ("shard.size_px", 18, "shard.execution.num_processes", 2),
    "train_tokenizer": ("tokenizer.training.learning_rate", 2e-3, "tokenizer.execution.checkpoint_every_steps", 7),
    "encode": ("encode.views", ["center"], "encode.execution.batch_size", 7),
    "train_prior": ("prior.condition_dropout", 0.2, "prior.execution.num_threads", 2),
    "sample": ("sample.temperature", 0.9, "sample.execution.batch_size", 3),
    "evaluate": ("evaluate.seed", 1, "evaluate.execution.batch_size", 9),
}


def _request(published: Published, stage: str, **overrides: Any) -> Request:
    """A stage's request over the published inputs."""
    given = {kind: published.artifacts[kind].manifest.fingerprint for kind in STEPS[stage].reads}
    config = tiny_config(published.config.store.url, published.source, **overrides)
    return Pipeline(config, given).request(stage)


def _never(_work: Work) -> NoReturn:
    raise AssertionError("built, although it is there")


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_there_is_served(published: Published, stage: str) -> None:
    request = dataclasses.replace(_request(published, stage), build=_never)
    assert execute(request, Store.open(published.config.store)) == published.artifacts[STEPS[stage].stage.kind].ref


@pytest.mark.parametrize("stage", STAGES)
def test_the_recipe_is_in_the_name_and_the_execution_is_not(published: Published, stage: str) -> None:
    field, value, execution_field, execution_value = FIELDS[stage]
    name = _request(published, stage).fingerprint
    assert _request(published, stage, **{field: value}).fingerprint != name
    assert _request(published, stage, **{execution_field: execution_value}).fingerprint == name
    assert _request(published, stage, name="another title").fingerprint == name


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_version_is_in_the_name(published: Published, stage: str) -> None:
    request = _request(published, stage)
    raised = dataclasses.replace(request.stage, version=request.stage.version + "+")
    assert dataclasses.replace(request, stage=raised).fingerprint != request.fingerprint


@pytest.mark.parametrize("stage", STAGES[1:])
def test_downstream_is_keyed_by_what_came_out(published: Published, stage: str) -> None:
    """A tokenizer that is trained again may be another one; its old tokens must not be served with it."""
    request = _request(published, stage)
    for number, ref in enumerate(request.inputs):
        others = list(request.inputs)
        others[number] = InputRef(kind=ref.kind, fingerprint=ref.fingerprint, digest="0" * 64)
        assert dataclasses.replace(request, inputs=tuple(others)).fingerprint != request.fingerprint
        others[number] = InputRef(kind=ref.kind, fingerprint="0" * 64, digest=ref.digest)
        assert dataclasses.replace(request, inputs=tuple(others)).fingerprint == request.fingerprint


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


LOST: list[tuple[str, str]] = [
    ("corpus", "index.parquet"),
    ("corpus", "../../parts/corpus"),
    ("tokenizer", "model.safetensors"),
    ("tokens", "../../parts/tokens"),
    ("prior", "manifest.json"),
    ("samples", "samples-000002.tar"),
    ("evaluation", "report.html"),
]


@pytest.mark.parametrize("damage", [_delete, _truncate])
@pytest.mark.parametrize(("kind", "name"), LOST)
def test_what_lost_a_file_is_made_again(
    published: Published, tmp_path: Path, kind: str, name: str, damage: Callable[[Path], None]
) -> None:
    copy = published.copy(tmp_path / "store")
    artifact = copy.artifacts[kind]
    path = next((entry.path for entry in artifact.manifest.files if entry.path.startswith(name)), name)
    damage(copy.root / artifact.manifest.folder / path)
    assert Store.open(copy.config.store).lookup(kind, artifact.manifest.fingerprint) is None
    again = build(copy.config)
    assert again[kind].manifest.digest == artifact.manifest.digest
    store = Store.open(copy.config.store)
    assert contents(store) == contents(Store.open(published.config.store))
    assert store.verify() == []


def test_a_flipped_bit_is_noticed_when_it_is_read_and_the_advice_helps(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store", prior__training__num_steps=41)
    tokens = copy.artifacts["tokens"].manifest
    path = copy.root / tokens.folder / tokens.files[3].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObject, match=r"is damaged: .* delete it, and the stage that made it"):
        build(copy.config)
    path.unlink()
    assert build(copy.config, "train_prior")["tokens"].manifest.digest == tokens.digest


def _rebuild(copy: Published, kind: str, files: dict[str, bytes]) -> Artifact:
    manifest = copy.artifacts[kind].manifest
    stage = Stage(manifest.stage, str(manifest.stage_version), kind)
    request = Request(stage, manifest.recipe, tuple(manifest.inputs), lambda _: Product(files=files), "again")
    assert request.fingerprint == manifest.fingerprint
    store = Store.open(copy.config.store)
    return store.get(execute(request, store))


def test_a_rebuild_with_other_bytes_is_another_artifact(published: Published, tmp_path: Path) -> None:
    """Training is not bit-equal on every machine: the same sizes, other weights, and one file of the old one lost."""
    copy = published.copy(tmp_path / "store")
    old = copy.artifacts["tokenizer"]
    files = {entry.path: bytes(entry.bytes) for entry in old.manifest.files}
    (copy.root / old.manifest.folder / "config.json").unlink()
    new = _rebuild(copy, "tokenizer", files)
    assert new.manifest.digest != old.manifest.digest
    assert Store.open(copy.config.store).verify(new.manifest) == []
    assert {name: new.read(name) for name in files} == files


def test_a_lease_that_was_lost_publishes_nothing(published: Published, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    kept: list[Lease] = []

    def build_slowly(work: Work) -> Product:
        kept.append(work.lease)
        claim = next(iter(store.storage.find("claims")))
        store.storage.create(claim.replace("000001", "000002"), b"{}")  # another run took this one for dead
        return Product(files={"a": b"1"})

    request = dataclasses.replace(_request(published, "shard"), build=build_slowly)
    with pytest.raises(Exception, match="another run has taken over") as caught:
        execute(request, store)
    assert "\n" not in str(caught.value)
    assert kept
    assert store.artifacts() == []


def test_a_failed_build_frees_the_claim(published: Published, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))

    def fail(_work: Work) -> NoReturn:
        raise ValueError("no")

    request = _request(published, "shard")
    with pytest.raises(ValueError, match="no"):
        execute(dataclasses.replace(request, build=fail), store)
    assert execute(request, store).digest == published.artifacts["corpus"].manifest.digest


def test_draft_and_manifest_agree_on_their_fields(published: Published) -> None:
    """Whatever a stage hands over is found in the manifest."""
    names = {field.name for field in dataclasses.fields(Draft)} - {"parts", "device"}
    assert names <= set(type(published.artifacts["prior"].manifest).model_fields)
    assert {STEPS[stage].stage.kind for stage in STAGES} == set(KINDS)
