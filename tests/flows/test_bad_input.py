"""What people get wrong: each ends in one clear line and a status, and what was published stays as it was."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from datasets.store import Store
from tasks import encode, train_tokenizer
from tasks.pipeline import STEPS
from tasks.stage import execute
from tests.flows.command_line import CommandLine
from tests.processes import Marked
from tests.tiny import KINDS, Published, contents, tiny_config, write_digits, write_preset

pytestmark = pytest.mark.usefixtures("harness")


@pytest.fixture
def copy(published: Published, tmp_path: Path) -> Iterator[Published]:
    """A store in which everything is published, and still is, whole, after the test."""
    copy = published.copy(tmp_path / "published")
    yield copy
    store = Store.open(copy.config.store)
    assert store.verify() == []
    for kind, artifact in copy.artifacts.items():
        assert store.get(artifact.ref).manifest == artifact.manifest, kind


@pytest.fixture
def preset(copy: Published, tmp_path: Path) -> Path:
    """The config of that store."""
    return write_preset(tmp_path / "tiny.yaml", copy.root, copy.source)


# ---- sources


@pytest.mark.parametrize("content", ["nothing", "no folder", "no image", "broken images"])
def test_a_folder_without_images(cli: CommandLine, preset: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "images"
    if content != "no folder":
        folder.mkdir()
    if content == "no image":
        (folder / "notes.txt").write_text("no image")
    if content == "broken images":
        (folder / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    said = cli("run", preset, f"shard.source.url={folder}")
    assert said.status == 1
    assert any(
        words in said.complaint
        for words in ("has no image that can be used", "no image of the source", "does not exist")
    )
    assert ("one.png" if content == "broken images" else str(folder)) in said.complaint


@pytest.mark.slow
def test_broken_images_among_good_ones_are_left_out_and_counted(
    cli: CommandLine, preset: Path, copy: Published, tmp_path: Path
) -> None:
    folder = write_digits(tmp_path / "images", count=60)
    (folder / "0" / "cut.png").write_bytes(next((folder / "0").iterdir()).read_bytes()[:60])
    (folder / "1" / "empty.png").write_bytes(b"")
    (folder / "2" / "text.jpg").write_text("no image")
    answer = cli("shard", preset, f"shard.source.url={folder}", "--json").json
    assert "3 left out" in answer["stages"][0]["summary"]
    store = Store.open(copy.config.store)
    artifact = next(m for m in store.artifacts("corpus") if m.fingerprint == answer["result"]["fingerprint"])
    assert (artifact.summary["kept"], artifact.summary["quarantined"], artifact.summary["listed"]) == (60, 3, 63)
    assert sum(artifact.summary["reasons"].values()) == 3
    rows = pq.read_table(Path(answer["result"]["uri"]) / "quarantine.parquet").to_pylist()
    assert {row["path"] for row in rows} == {"0/cut.png", "1/empty.png", "2/text.jpg"}
    assert all(row["reason"] and row["detail"] for row in rows)


def test_too_many_broken_images(cli: CommandLine, preset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        Image.new("L", (16, 16), number).save(folder / f"{number}.png")
        (folder / f"{number}-broken.png").write_bytes(b"no image")
    said = cli("shard", preset, f"shard.source.url={folder}", "shard.max_bad_fraction=0.2")
    assert said.status == 1
    assert "4 of 8 images cannot be used, more than max_bad_fraction 0.2 allows" in said.complaint


@pytest.mark.parametrize(
    ("holds", "level", "words"),
    [
        ("{kind: labels, num_classes: 3}", np.uint8(7), ("label_outside", "label 7 is outside the classes 0 to 2")),
        ("{kind: values}", np.uint16(900), ("partner_mode", "1 channels of 16 bits; pairs.p.holds asks for 1 of 8")),
    ],
    ids=["a label outside the classes", "a depth map of 16 bits"],
)
def test_maps_that_are_not_what_the_config_says(
    cli: CommandLine, preset: Path, tmp_path: Path, holds: str, level: np.generic, words: tuple[str, ...]
) -> None:
    images = write_digits(tmp_path / "images", count=3)
    for path in images.glob("*/*.png"):
        target = tmp_path / "maps" / path.relative_to(images)
        target.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), level)).save(target)
    pair = f"shard.pairs.p={{kind: files, url: {tmp_path / 'maps'}, holds: {holds}}}"
    said = cli("shard", preset, f"shard.source.url={images}", pair)
    assert said.status == 1
    assert all(word in said.complaint for word in words), said.complaint


# ---- configs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer": {"codebook_sise": 16}}, ("tokenizer.codebook_sise", "there is no such field")),
        ({"colour": "red"}, ("colour", "there is no such field")),
        ({"tokenizer": {"codebook_size": 1}}, ("tokenizer.codebook_size", "greater than or equal to 2", "got 1")),
        ({"prior": {"width": "wide"}}, ("prior.width", "valid integer", "got 'wide'")),
        ({"sample": [1]}, ("sample", "got [1]")),
        ({"shard": {"source": {"kind": "magic"}}}, ("shard.source", "'magic'", "'digits'")),
        ({"shard": {"channels": 3}}, ("image_channels is 1 but shard.channels is 3", "make them equal")),
        ({"tokenizer": {"autoencoder": {"resolution_px": 14}}}, ("no multiple of the downsampling factor",)),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "encode"])
def test_a_wrong_config(
    cli: CommandLine, preset: Path, command: str, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    values = yaml.safe_load(preset.read_text())
    preset.write_text(yaml.safe_dump(_merged(values, change)))
    said = cli(command, preset)
    assert said.status == 2
    assert all(word in said.complaint for word in words), said.complaint


def _merged(values: Any, change: Any) -> Any:
    if not (isinstance(values, dict) and isinstance(change, dict)):
        return change
    return {**values, **{name: _merged(values.get(name), value) for name, value in change.items()}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digitz",), ("there is no preset 'digitz'", "digits", "folder", "path of a .yaml")),
        (("no/such/file.yaml",), ("cannot read the config no/such/file.yaml", "No such file")),
        (("digits", "tokenizer.codebook_sise=4"), ("tokenizer.codebook_sise", "there is no such field")),
        (("digits", "tokenizer.codebook_size"), ("expected key.path=value",)),
        (("digits", "sample.top_p=[1"), ("the value is not YAML",)),
        (("digits", "sample.temperature=.nan"), ("sample.temperature", "finite")),
    ],
)
def test_a_wrong_preset_or_override(cli: CommandLine, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    said = cli("run", *arguments)
    assert said.status == 2
    assert all(word in said.complaint for word in words), said.complaint


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [1", "\x00", "!!python/object/apply:os.system ['touch pwned']"])
def test_a_file_that_is_no_config(cli: CommandLine, tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    said = cli("run", path)
    assert said.status == 2
    assert str(path) in said.complaint
    assert not Path("pwned").exists()


# ---- stores


@pytest.mark.parametrize("place", ["file", "below a file", "no such device"])
def test_a_store_that_is_not_writable(cli: CommandLine, preset: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    store = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "x", "no such device": "/proc/no-store"}[
        place
    ]
    said = cli("run", preset, "--store", store)
    assert said.status == 1
    assert f"the store {store} is not writable" in said.complaint
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_permission(cli: CommandLine, preset: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    said = cli("run", preset, "--store", tmp_path / "closed" / "store")
    assert said.status == 1
    assert "is not writable: Permission denied" in said.complaint


@pytest.mark.parametrize("url", ["s3://", "ftp://127.0.0.1:1/x", "nonsense://x"])
def test_a_url_that_is_no_store(cli: CommandLine, preset: Path, url: str) -> None:
    said = cli("run", preset, "--store", url)
    assert said.status == 1
    assert url in said.complaint


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk(harness: str, copy: Published, tmp_path: Path, marked: Marked) -> None:
    """No file above 20 kB can be written: the tokenizer's first checkpoint is larger, the corpus is there."""
    preset = write_preset(tmp_path / "tiny.yaml", copy.root, copy.source, tokenizer__training__seed=1)
    command = ("-m", "flows.cli", "run", str(preset), "--json")
    environment = {"PREFECT_API_URL": harness}
    full = marked.start(*command, environment=environment, largest_file=20_000)
    output, errors = full.communicate(timeout=120)
    assert (full.returncode, output) == (1, ""), errors
    assert errors.count("\n") == 1
    assert errors.startswith(f"tessera: no room to write {copy.root}")
    assert "free some space" in errors
    assert not list(copy.root.glob("**/*.tmp-*"))
    again = marked.start(*command, environment=environment)
    output, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    assert len(json.loads(output)["stages"]) == len(KINDS)
    marked.assert_gone()


# ---- artifacts that do not belong together


@pytest.fixture
def foreign(copy: Published) -> dict[str, str]:
    """Fingerprints of another tokenizer of the same corpus, and of its tokens."""
    store = Store.open(copy.config.store)
    config = tiny_config(copy.root, copy.source, tokenizer__training__num_steps=1)
    tokenizer = store.get(execute(train_tokenizer.request(config.tokenizer, copy.artifacts["corpus"]), store))
    tokens = store.get(execute(encode.request(config.encode, copy.artifacts["corpus"], tokenizer), store))
    return {"tokenizer": tokenizer.ref.fingerprint, "tokens": tokens.ref.fingerprint}


@pytest.mark.parametrize(
    ("command", "kind"), [("sample", "tokenizer"), ("evaluate", "tokens"), ("evaluate", "tokenizer")]
)
def test_tokens_of_another_tokenizer(
    cli: CommandLine, preset: Path, copy: Published, foreign: dict[str, str], command: str, kind: str
) -> None:
    names = {name: copy.artifacts[name].ref.fingerprint for name in STEPS[command].reads} | {kind: foreign[kind]}
    said = cli(command, preset, *(f"--{name}={fingerprint}" for name, fingerprint in names.items()))
    assert said.status == 1
    assert re.search("reads tokens of the tokenizer with digest|these tokens .*were made by tokenizer", said.complaint)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "--tokenizer", "beef"), "no artifact in"),
        (("encode", "--tokenizer", "{corpus}"), "is a corpus artifact, but a tokenizer artifact is needed"),
    ],
)
def test_an_input_that_is_none(
    cli: CommandLine, preset: Path, copy: Published, arguments: tuple[str, ...], words: str
) -> None:
    names = {kind: artifact.ref.fingerprint for kind, artifact in copy.artifacts.items()}
    command, *options = (text.format(**names) for text in arguments)
    said = cli(command, preset, *options)
    assert said.status == 1
    assert words in said.complaint


def test_a_training_that_diverges(cli: CommandLine, preset: Path, copy: Published) -> None:
    said = cli(
        "train-tokenizer", preset, "tokenizer.training.learning_rate=1e30", "tokenizer.training.gradient_clip=null"
    )
    assert said.status == 1
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("tessera: ")
    assert contents(Store.open(copy.config.store)).keys() == set(KINDS)
