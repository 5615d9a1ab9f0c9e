"""A plan says what a run would do, costs the rest of it, and leaves the store as it was."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torchvision

from datasets.config import TorchvisionSource
from datasets.errors import SourceError
from datasets.sources import Listing, SourceEntry
from datasets.store import Store
from flows.cli import main
from tasks.config import PipelineConfig
from tasks.estimates import Estimates, Extent
from tasks.generations import find_parent
from tasks.pipeline import Pipeline
from tasks.planning import plan_rows
from tests import tiny
from tests.tiny import KINDS, STAGES, Published, Recorder, Stopped, build, tiny_config

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


def test_an_empty_store_stays_absent(tmp_path: Path, digit_folder: Path) -> None:
    rows = rows_of(tiny_config(tmp_path / "store", digit_folder))
    assert not (tmp_path / "store").exists()
    states = [row["state"] for row in rows.values()]
    assert states == ["would run", *(f"waits for {stage}" for stage in STAGES[:-1])]
    assert len(rows["shard"]["fingerprint"]) == 64
    assert all(rows[stage]["fingerprint"] is None for stage in STAGES[1:])
    assert rows["shard"]["PFLOP"] is None
    assert "240 images" in rows["shard"]["note"]
    for stage in STAGES[1:]:
        assert rows[stage]["PFLOP"] > 0
        assert rows[stage]["hours"] > 0
        assert "GFLOP/s" in rows[stage]["note"]
    assert all(row["GB"] > 0 for row in rows.values())


def test_a_full_store_has_nothing_left_to_do(published: Published) -> None:
    before = contents(published.root)
    rows = rows_of(published.config)
    assert contents(published.root) == before
    assert {row["state"] for row in rows.values()} == {"cached"}
    assert [rows[stage][name] for stage in STAGES for name in ("PFLOP", "hours", "GB")] == [0.0] * 18
    for stage, artifact in zip(STAGES, published.artifacts.values(), strict=True):
        assert rows[stage]["fingerprint"] == artifact.manifest.fingerprint
        assert rows[stage]["note"] == artifact.manifest.summary["headline"]
    num_parameters = published.artifacts["prior"].manifest.summary["num_parameters"]
    assert rows["train_prior"]["parameters"] == num_parameters


def test_a_change_reaches_what_depends_on_it_and_nothing_else(published: Published) -> None:
    before = contents(published.root)
    rows = rows_of(tiny_config(published.root, published.source, prior__width=16))
    assert contents(published.root) == before
    assert [rows[stage]["state"] for stage in STAGES] == [
        "cached", "cached", "cached", "would run", "waits for train_prior", "waits for sample",
    ]  # fmt: skip
    assert rows["train_prior"]["fingerprint"] not in (None, published.artifacts["prior"].manifest.fingerprint)
    assert rows["sample"]["fingerprint"] is None


def test_it_foresees_the_fingerprint_of_the_run(published: Published, tmp_path: Path) -> None:
    before = published.without("samples", tmp_path / "store").config
    config = tiny_config(before.store.url, published.source, sample__temperature=0.5)
    foreseen = rows_of(config)["sample"]
    assert foreseen["state"] == "would run"
    made = tiny.build(config, last="sample")
    assert foreseen["fingerprint"] == made["samples"].manifest.fingerprint
    assert rows_of(config)["sample"]["state"] == "cached"


@pytest.mark.parametrize(
    ("stage", "updates", "left_behind", "share_left"),
    [
        ("shard", 50, "40 of 240 images are there", 5 / 6),
        ("train_tokenizer", 13, "10 of 30 steps are there", 2 / 3),
        ("encode", 5, "5 of 24 token files are there", 19 / 24),
        ("train_prior", 13, "10 of 40 steps are there", 3 / 4),
        ("sample", 3, "15 of 20 images are there", 1 / 4),
        ("evaluate", 2, "2 of 4 groups of metrics are there", 1 / 2),
    ],
)
def test_a_stage_that_was_begun_says_how_far(
    published: Published, tmp_path: Path, stage: str, updates: int, left_behind: str, share_left: float
) -> None:
    config = published.without(KINDS[STAGES.index(stage)], tmp_path / "store").config
    whole = rows_of(config)[stage]
    with pytest.raises(Stopped):
        tiny.build(config, last=stage, reporter=Recorder(stop_after=updates))
    before = contents(tmp_path / "store")
    rest = rows_of(config)[stage]
    assert contents(tmp_path / "store") == before
    assert (rest["state"], rest["fingerprint"]) == ("would run", whole["fingerprint"])
    assert rest["note"].startswith(left_behind)
    assert "are there" not in whole["note"]
    assert rest["GB"] == pytest.approx(whole["GB"] * share_left)
    if whole["PFLOP"] is not None:
        assert rest["PFLOP"] == pytest.approx(whole["PFLOP"] * share_left)


def test_a_damaged_artifact_would_be_made_again(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    next((tmp_path / "store" / "prior").glob("*/model.safetensors")).unlink()
    rows = rows_of(copy.config)
    assert [rows[stage]["state"] for stage in STAGES[3:]] == ["would run", "waits for train_prior", "waits for sample"]


def test_a_device_that_is_not_here_leaves_the_hours_open(tmp_path: Path, digit_folder: Path) -> None:
    rows = rows_of(tiny_config(tmp_path / "store", digit_folder, prior__execution__device="cuda:93"))
    assert rows["train_prior"]["hours"] is None
    assert "device cuda:93" in rows["train_prior"]["note"]
    assert rows["train_prior"]["PFLOP"] > 0
    assert rows["encode"]["hours"] > 0


def test_published_counts_take_the_place_of_the_listing(published: Published, tmp_path: Path) -> None:
    """The listing promises 48 of 240 images for validation; which they are, and how many, only sharding finds out."""
    splits = published.artifacts["corpus"].manifest.summary["splits"]
    assert splits["val"] != 48, "choose another validation_fraction: this test could not fail"
    for store, extent in (
        (tmp_path / "store", Extent(192, 48, 10)),
        (published.root, Extent(splits["train"], splits["val"], 10)),
    ):
        config = tiny_config(store, published.source, evaluate__seed=1)
        foreseen = sum(Estimates(config, extent).evaluate().flops.values())
        assert rows_of(config)["evaluate"]["PFLOP"] == pytest.approx(foreseen / 1e15)


def test_a_pipeline_that_cannot_work_is_told_before_it_runs(tmp_path: Path, digit_folder: Path) -> None:
    images = digit_folder / "3"  # no sub-folders: no labels
    with pytest.raises(ValueError, match=r"these tokens have no classes: set prior\.condition=none"):
        plan_rows(tiny_config(tmp_path / "store", images))
    rows = rows_of(tiny_config(tmp_path / "store", images, prior__condition="none", sample__guidance=1.0))
    assert rows["sample"]["PFLOP"] > 0


def test_a_plan_fetches_no_data_set(tmp_path: Path) -> None:
    source = {"kind": "torchvision", "name": "CIFAR10", "root": str(tmp_path / "here")}
    config = PipelineConfig.load(None, {"shard.source": source, "store.url": str(tmp_path / "store")})
    assert isinstance(config.shard.source, TorchvisionSource)
    assert config.shard.source.download
    with pytest.raises(SourceError, match=r"source\.download=true: a plan fetches nothing"):
        plan_rows(config)
    assert not (tmp_path / "here").exists()


class SmallData(torchvision.datasets.FakeData):
    """A data set of torchvision's, made small."""

    def __init__(self) -> None:
        super().__init__(size=20, image_size=(3, 8, 8), num_classes=2)


def test_whether_files_would_be_fetched_names_no_other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "FakeData", SmallData)
    source = {"kind": "torchvision", "name": "FakeData", "download": False}
    made = build(tiny_config(tmp_path / "store", Path("unused"), shard__source=source), "shard")["corpus"]
    fetching = tiny_config(tmp_path / "store", Path("unused"), shard__source={**source, "download": True})
    listing = Pipeline(fetching).listing
    grown = Listing([*listing, SourceEntry("more.png", 1, "sha256:0", "0")], origin="a grown one")
    assert find_parent(fetching.shard, grown, Store.open(fetching.store)) == made.ref.as_input()


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
