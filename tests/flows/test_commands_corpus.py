"""`tessera corpus …` over a corpus of two generations: what a person sees, and what a program gets."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from PIL import Image

from datasets.pair_config import FilesPair, LabelMaps
from datasets.store import Artifact
from tests.flows.command_line import CommandLine
from tests.tiny import build, tiny_config, write_digits


@dataclass(frozen=True)
class Line:
    """A corpus and what it has grown to."""

    store: Path
    first: Artifact
    second: Artifact


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    root = tmp_path_factory.mktemp("line")
    source = write_digits(root / "digits", 40)
    (source / "0" / "broken.png").write_bytes(b"junk")
    config = tiny_config(root / "store", source, shard__images_per_shard=20)
    first = build(config, "shard")["corpus"]
    (source / "0" / "0000.png").unlink()
    (source / "1" / "0001.png").rename(source / "2" / "0001.png")
    Image.new("L", (9, 9), 77).save(source / "3" / "new.png")
    return Line(root / "store", first, build(config, "shard")["corpus"])


def name(artifact: Artifact) -> str:
    return artifact.manifest.fingerprint[:10]


def test_ls_shows_generations(cli: CommandLine, line: Line) -> None:
    rows = cli("corpus", "ls", "--json", "--store", line.store).json
    assert [(row["generation"], row["parent"]) for row in rows] == [(1, None), (2, line.first.manifest.fingerprint)]
    assert [(row["kept"], row["new"], row["tombstones"]) for row in rows] == [(40, 40, 0), (40, 2, 2)]
    text = cli("corpus", "ls", "--store", line.store).out
    assert all(row["fingerprint"][:12] in text for row in rows)


def test_ls_of_an_empty_store(cli: CommandLine, tmp_path: Path) -> None:
    said = cli("corpus", "ls", "--store", tmp_path / "nowhere")
    assert (said.status, "nowhere" in said.err) == (0, True)


def test_show_accounts_for_every_file(cli: CommandLine, line: Line) -> None:
    text = cli("corpus", "show", name(line.second), "--store", line.store).out
    assert "41 listed = 40 kept + 1 quarantined + 0 duplicates" in text
    assert f"generation 2, grown from {line.first.manifest.fingerprint[:12]}" in text
    assert "not_an_image" in text
    shown = cli("corpus", "show", name(line.second), "--json", "--store", line.store).json
    assert shown["summary"] == line.second.manifest.summary


def test_diff_says_what_came_and_went(cli: CommandLine, line: Line) -> None:
    names = (name(line.first), name(line.second))
    found = cli("corpus", "diff", *names, "--json", "--store", line.store).json
    assert (found["added"], found["removed"]) == (["3/new.png"], ["0/0000.png"])
    assert (found["relabelled"], found["moved"], found["resplit"]) == (["2/0001.png"], ["2/0001.png"], [])
    assert found["num_common"] == 39
    text = cli("corpus", "diff", *names, "--store", line.store).out
    assert "39 records in both" in text
    assert "relabelled: 1\n  2/0001.png" in text


def test_head_lists_records_or_the_quarantine(cli: CommandLine, line: Line) -> None:
    rows = cli("corpus", "head", name(line.second), "--count", "3", "--json", "--store", line.store).json
    assert len(rows) == 3
    assert rows == sorted(rows, key=lambda row: row["key"])
    [bad] = cli("corpus", "head", name(line.second), "--quarantine", "--json", "--store", line.store).json
    assert (bad["path"], bad["reason"]) == ("0/broken.png", "not_an_image")
    assert rows[0]["source_path"] in cli("corpus", "head", name(line.second), "--store", line.store).out


def test_sheet_draws_random_records(cli: CommandLine, line: Line, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    command = ("corpus", "sheet", name(line.second), "--out", out, "--count", "6", "--columns", "3", "--json")
    drawn = cli(*command, "--store", line.store).json
    assert len(drawn["records"]) == len({record["key"] for record in drawn["records"]}) == 6
    with Image.open(out) as image:
        assert image.width > image.height > 64
    first = out.read_bytes()
    assert cli(*command, "--store", line.store).json == drawn
    assert out.read_bytes() == first
    assert cli(*command, "--seed", "1", "--store", line.store).json != drawn


def test_verify_reads_every_record(cli: CommandLine, line: Line, tmp_path: Path) -> None:
    shutil.copytree(line.store, tmp_path / "store")
    command = ("corpus", "verify", name(line.second), "--store", tmp_path / "store")
    assert "every record is there" in cli(*command).out
    shard = sorted((tmp_path / "store" / "parts" / "corpus").glob("*/train-000001.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    said = cli(*command, "--json")
    assert said.status == 1
    assert any("train-000001.tar" in problem for problem in json.loads(said.out))


def test_compact_makes_one_generation(cli: CommandLine, line: Line, tmp_path: Path) -> None:
    shutil.copytree(line.store, tmp_path / "store")
    made = cli("corpus", "compact", name(line.second), "--json", "--store", tmp_path / "store").json
    assert (made["generation"], made["parent"], made["kept"], made["tombstones"]) == (1, None, 40, 0)
    found = cli(
        "corpus", "diff", name(line.second), made["fingerprint"], "--json", "--store", tmp_path / "store"
    ).json  # fmt: skip
    assert (found["added"], found["removed"], found["num_shared_shards"]) == ([], [], 0)
    said = cli("corpus", "compact", made["fingerprint"], "--store", tmp_path / "store")
    assert (said.status, "nothing to compact" in said.complaint) == (1, True)


def test_poses_are_drawn_for_shard_pairs(cli: CommandLine, tmp_path: Path) -> None:
    about = {
        "images": [{"id": 1, "file_name": "a/b.jpg", "width": 30, "height": 20}],
        "annotations": [{"image_id": 1, "category_id": 1, "keypoints": [5, 10, 2, 25, 10, 2]}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["left", "right"], "skeleton": [[1, 2]]}],
    }
    (tmp_path / "keypoints.json").write_text(json.dumps(about))
    command = ("corpus", "poses", tmp_path / "keypoints.json", tmp_path / "poses")
    told = cli(*command, "--json").json
    assert (told["num_images"], told["limbs"]) == (1, ["person: left-right"])
    pair = FilesPair.model_validate(yaml.safe_load(told["pair"]))
    assert (pair.url, pair.holds) == (str(tmp_path / "poses"), LabelMaps(num_classes=3))
    with Image.open(tmp_path / "poses" / "a" / "b.png") as image:
        assert image.size == (30, 20)
        assert image.getpixel((15, 10)) == 1
    assert told["pair"] in cli(*command).out
    assert "0.5 of the longer side" in cli(*command, "--width", "2").complaint


def test_other_artifacts_are_no_corpora(cli: CommandLine, line: Line) -> None:
    said = cli("corpus", "show", "ffff", "--store", line.store)
    assert said.status == 1
    assert "no artifact in" in said.complaint
