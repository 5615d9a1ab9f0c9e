"""A plan says what a run would do, costs the rest of it, and leaves the store as it was."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from datasets.store import Store
from flows.cli import main
from tasks.config import PipelineConfig
from tasks.planning import plan_rows
from tests.tiny_pipeline import interrupt, run_stages, tiny_config

STAGES = ("shard", "train_tokenizer", "encode", "train_prior", "sample", "evaluate")
COLUMNS = ["stage", "state", "fingerprint", "parameters", "PFLOP", "hours", "GB", "note"]


def rows_of(config: PipelineConfig) -> dict[str, dict[str, Any]]:
    """A plan by stage; makes sure of what holds for every plan."""
    rows = plan_rows(config)
    assert [row["stage"] for row in rows] == list(STAGES)
    assert all(list(row) == COLUMNS for row in rows)
    for row in rows:
        unknown = [name for name in ("PFLOP", "hours", "GB") if row[name] is None]
        assert not unknown or row["note"], f"{row['stage']} does not say why {unknown} are unknown"
    json.dumps(rows, allow_nan=False)
    return {row["stage"]: row for row in rows}


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of every file below a folder."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_empty_store_stays_absent(tmp_path: Path, tiny_images: Path) -> None:
    rows = rows_of(tiny_config(tmp_path / "store", tiny_images))
    assert not (tmp_path / "store").exists()
    states = [row["state"] for row in rows.values()]
    assert states == ["would run", *(f"waits for {stage}" for stage in STAGES[:-1])]
    assert len(rows["shard"]["fingerprint"]) == 64
    assert all(rows[stage]["fingerprint"] is None for stage in STAGES[1:])
    assert rows["shard"]["PFLOP"] is None
    assert "49 images" in rows["shard"]["note"]
    for stage in STAGES[1:]:
        assert rows[stage]["PFLOP"] > 0
        assert rows[stage]["hours"] > 0
        assert "GFLOP/s" in rows[stage]["note"]
    assert all(row["GB"] > 0 for row in rows.values())


def test_a_full_store_has_nothing_left_to_do(tiny_store: Path, tiny_images: Path) -> None:
    before = contents(tiny_store)
    rows = rows_of(tiny_config(tiny_store, tiny_images))
    assert contents(tiny_store) == before
    assert {row["state"] for row in rows.values()} == {"cached"}
    assert [rows[stage][name] for stage in STAGES for name in ("PFLOP", "hours", "GB")] == [0.0] * 18
    manifests = {manifest.stage: manifest for manifest in Store.open(str(tiny_store)).artifacts()}
    for stage in STAGES:
        assert rows[stage]["fingerprint"] == manifests[stage].fingerprint
        assert rows[stage]["note"] == manifests[stage].summary["headline"]
    assert rows["train_prior"]["parameters"] == manifests["train_prior"].summary["num_parameters"]


def test_a_change_reaches_what_depends_on_it_and_nothing_else(tiny_store: Path, tiny_images: Path) -> None:
    before = contents(tiny_store)
    rows = rows_of(tiny_config(tiny_store, tiny_images, {"prior.width": 32}))
    assert contents(tiny_store) == before
    assert [rows[stage]["state"] for stage in STAGES] == [
        "cached", "cached", "cached", "would run", "waits for train_prior", "waits for sample",
    ]  # fmt: skip
    assert rows["train_prior"]["fingerprint"] not in (None, rows["encode"]["fingerprint"])
    assert rows["sample"]["fingerprint"] is None


def test_it_foresees_the_fingerprints_of_the_run(tiny_store: Path, tiny_images: Path, tmp_path: Path) -> None:
    """Stage by stage: each is foreseen when its inputs are there, and then run."""
    shutil.copytree(tiny_store, tmp_path / "store")
    config = tiny_config(tmp_path / "store", tiny_images, {"prior.width": 32})
    for stage in ("train_prior", "sample", "evaluate"):
        foreseen = rows_of(config)[stage]
        assert foreseen["state"] == "would run"
        made = run_stages(config, last=stage)
        assert foreseen["fingerprint"] in {artifact.manifest.fingerprint for artifact in made.values()}
    assert {row["state"] for row in rows_of(config).values()} == {"cached"}


@pytest.mark.parametrize(
    ("stage", "after", "left_behind", "share_left"),
    [
        ("shard", 45, "40 of 49 images are there", 9 / 49),
        ("train_tokenizer", 5, "4 of 6 steps are there", 2 / 6),
        ("encode", 2, "2 of 6 token files are there", 4 / 6),
        ("train_prior", 3, "2 of 6 steps are there", 4 / 6),
        ("sample", 4, "4 of 6 images are there", 2 / 6),
        ("evaluate", 2, "2 of 4 groups of metrics are there", 2 / 4),
    ],
)
def test_a_stage_that_was_begun_says_how_far(
    tmp_path: Path, tiny_images: Path, tiny_store: Path, stage: str, after: int, left_behind: str, share_left: float
) -> None:
    store = tmp_path / "store"
    _copy_until(tiny_store, store, stage)
    config = tiny_config(store, tiny_images)
    whole = rows_of(config)[stage]
    interrupt(config, stage, after)
    before = contents(store)
    rest = rows_of(config)[stage]
    assert contents(store) == before
    assert (rest["state"], rest["fingerprint"]) == ("would run", whole["fingerprint"])
    assert rest["note"].startswith(left_behind)
    assert "are there" not in whole["note"]
    assert rest["GB"] == pytest.approx(whole["GB"] * share_left)
    if whole["PFLOP"] is not None:
        assert rest["PFLOP"] == pytest.approx(whole["PFLOP"] * share_left)


def test_a_damaged_artifact_would_be_made_again(tiny_store: Path, tiny_images: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_store, tmp_path / "store")
    next((tmp_path / "store" / "prior").glob("*/model.safetensors")).unlink()
    rows = rows_of(tiny_config(tmp_path / "store", tiny_images))
    assert [rows[stage]["state"] for stage in STAGES[3:]] == ["would run", "waits for train_prior", "waits for sample"]


def test_a_device_that_is_not_here_leaves_the_hours_open(tmp_path: Path, tiny_images: Path) -> None:
    rows = rows_of(tiny_config(tmp_path / "store", tiny_images, {"prior.execution.device": "cuda:93"}))
    assert rows["train_prior"]["hours"] is None
    assert "device cuda:93" in rows["train_prior"]["note"]
    assert rows["train_prior"]["PFLOP"] > 0
    assert rows["encode"]["hours"] > 0


def test_published_counts_take_the_place_of_the_listing(tiny_store: Path, tiny_images: Path, tmp_path: Path) -> None:
    """The source lists 49 files, the corpus has 48 images: encoding them costs 48/49 of what was foreseen."""
    before = rows_of(tiny_config(tmp_path / "store", tiny_images, {"encode.views": ["center_flip"]}))
    after = rows_of(tiny_config(tiny_store, tiny_images, {"encode.views": ["center_flip"]}))
    assert after["encode"]["PFLOP"] == pytest.approx(before["encode"]["PFLOP"] * 48 / 49)


def test_a_pipeline_that_cannot_work_is_told_before_it_runs(tmp_path: Path, tiny_images: Path) -> None:
    images = tiny_images / "dots"  # no sub-folders: no labels
    config = tiny_config(tmp_path / "store", images)
    with pytest.raises(ValueError, match=r"these tokens have no classes: set prior\.condition=none"):
        plan_rows(config)
    rows = rows_of(tiny_config(tmp_path / "store", images, {"prior.condition": "none", "sample.guidance": 1.0}))
    assert rows["sample"]["PFLOP"] > 0


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--json` is the rows; the table has the same figures and a sum."""
    monkeypatch.delenv("TESSERA_STORE", raising=False)
    arguments = ["plan", "digits", "--store", str(tmp_path / "store"), "prior.num_layers=1"]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [list(row) for row in rows] == [COLUMNS] * 6
    assert [row["stage"] for row in rows] == list(STAGES)
    assert all(isinstance(row[name], float) or row[name] is None for row in rows for name in ("PFLOP", "hours", "GB"))
    assert all(isinstance(row["parameters"], int) for row in rows if row["stage"].startswith("train_"))
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert rows[0]["fingerprint"][:12] in shown
    assert f"{rows[1]['parameters']:,}" in shown
    assert f"in all: {math.fsum(row['PFLOP'] or 0 for row in rows):.3g} PFLOP" in shown
    assert "and the hours of shard" in shown
    assert main(["plan", "digits", "--store", str(tmp_path / "store"), "prior.depth=1"]) == 2
    assert "prior.depth: there is no such field" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def _copy_until(tiny_store: Path, store: Path, stage: str) -> None:
    """A store with everything before a stage and nothing of it."""
    shutil.copytree(tiny_store, store)
    kinds = ("corpus", "tokenizer", "tokens", "prior", "samples", "evaluation")
    for kind in kinds[STAGES.index(stage) :]:
        shutil.rmtree(store / kind)
        shutil.rmtree(store / "parts" / kind, ignore_errors=True)
