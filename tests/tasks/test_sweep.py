"""Contract: every point is an artifact, all are judged alike, and the best is the best by the named metric."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from datasets.store import Artifact, Store
from tasks import sample, sweep
from tasks.stage import Request, execute
from tasks.subjects import Subjects
from tests.tiny import Published, Recorder, Stopped
from vqgan_core.config import ConfigError, EvaluateConfig, SweepConfig

CPU = {"device": "cpu", "num_threads": 1}


def config(**fields: Any) -> SweepConfig:
    values = {"guidance": (1.0, 3.0), "temperature": (0.5, 1.0), "num_per_class": 1, "execution": CPU}
    return SweepConfig.validated(values | fields, origin="test")


@pytest.fixture(scope="module")
def points(published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, list[Artifact]]:
    copy = published.copy(tmp_path_factory.mktemp("sweep") / "store")
    store, of = Store.open(copy.config.store), copy.artifacts
    wanted = sweep.settings(config(), copy.config.sample)
    return copy, [store.get(execute(sample.request(one, of["prior"], of["tokenizer"]), store)) for one in wanted]


@pytest.fixture
def evaluate(published: Published) -> EvaluateConfig:
    return published.config.evaluate.model_copy(update={"num_neighbours": 1})


def ask(points: tuple[Published, list[Artifact]], evaluate: EvaluateConfig, **fields: Any) -> Request:
    return sweep.request(config(**fields), evaluate, Subjects.of(points[0].artifacts.__getitem__), points[1])


def test_settings_change_nothing_else(published: Published) -> None:
    of = published.config.sample
    found = [(one.guidance, one.temperature) for one in sweep.settings(config(), of)]
    assert found == [(1.0, 0.5), (1.0, 1.0), (3.0, 0.5), (3.0, 1.0)]
    for one in sweep.settings(config(), of):
        same = {name: getattr(of, name) for name in ("guidance", "temperature", "num_per_class")}
        assert one.model_copy(update=same) == of
    with pytest.raises(ConfigError, match="takes no temperature"):
        sweep.settings(config(num_per_class=1), of.model_copy(update={"num_beams": 4, "guidance": 1.0}))


def test_the_table_and_the_best(points: tuple[Published, list[Artifact]], evaluate: EvaluateConfig) -> None:
    store = Store.open(points[0].config.store)
    artifact = store.get(execute(ask(points, evaluate), store))
    told = json.loads(artifact.read("sweep.json"))
    assert [row["samples"] for row in told["points"]] == [drawn.manifest.fingerprint for drawn in points[1]]
    values = [row["metrics"]["FD-domain"]["value"] for row in told["points"]]
    assert len(set(values)) == 4
    assert told["best"] == values.index(min(values))
    extractors = {row["metrics"]["FD-domain"]["extractor_sha256"] for row in told["points"]}
    assert len(extractors) == 1
    table = list(csv.DictReader(io.StringIO(artifact.read("sweep.csv").decode())))
    assert [float(row["FD-domain"]) for row in table] == values
    best = artifact.manifest.summary["best"]
    assert (best["guidance"], best["temperature"]) == ((1.0, 3.0)[told["best"] // 2], (0.5, 1.0)[told["best"] % 2])
    page = artifact.read("report.html").decode()
    assert page.count("<svg") >= len(table[0]) - 3
    assert "data:image/png" in page
    higher = store.get(execute(ask(points, evaluate, metric="classifier accuracy, samples"), store))
    rows = json.loads(higher.read("sweep.json"))
    values = [row["metrics"]["classifier accuracy, samples"]["value"] for row in rows["points"]]
    assert rows["best"] == values.index(max(values))


def test_it_goes_on_where_it_was_stopped(
    points: tuple[Published, list[Artifact]], evaluate: EvaluateConfig, tmp_path: Path
) -> None:
    request = ask(points, evaluate)
    steps = evaluate.classifier.num_steps
    with pytest.raises(Stopped):
        execute(request, Store.open(str(tmp_path / "a")), Recorder(stop_after=steps + 2))
    again = Recorder()
    resumed = execute(request, Store.open(str(tmp_path / "a")), again)
    assert {label for label, _ in again.updates} == {"sweep"}  # the classifier was there
    assert resumed.digest == execute(request, Store.open(str(tmp_path / "b"))).digest


def test_a_metric_that_is_none(points: tuple[Published, list[Artifact]], evaluate: EvaluateConfig) -> None:
    with pytest.raises(ConfigError, match=r"'PSNR' was not measured: choose one of .*FD-domain"):
        execute(ask(points, evaluate, metric="PSNR"), Store.open(points[0].config.store))


@pytest.mark.parametrize("fields", [{"guidance": (1.0, 1.0)}, {"temperature": ()}, {"guidance": (-1.0,)}])
def test_values_that_are_no_sweep(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config(**fields)
