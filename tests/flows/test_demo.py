"""The promise of `make demo`: recognisable samples, judged by a classifier that never saw the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from datasets.store import Artifact, Store
from tasks.sample import read_samples
from tests.flows.conftest import NewHome

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, new_home: NewHome) -> tuple[Path, dict[str, str]]:
    """The digits preset, run from the command line as `make demo` does."""
    place = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "PREFECT_HOME": str(new_home("demo-prefect")), "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("PREFECT_API_URL", None)
    run_demo(place, environment)
    return place, environment


def run_demo(place: Path, environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "flows.cli", "run", "digits", "--store", str(place / "store"), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def newest(place: Path, kind: str) -> Artifact:
    store = Store.open(str(place / "store"))
    return store.get(store.artifacts(kind)[-1])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_foreign_classifier_reads_the_samples_as_what_was_asked(demo: tuple[Path, dict[str, str]]) -> None:
    digits = load_digits()
    judge = SVC(gamma=0.001, C=10).fit(digits.data, digits.target)
    samples = list(read_samples(newest(demo[0], "samples")))
    small = [
        np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX)) / 255 * 16 for pixels, _ in samples
    ]
    asked = np.array([label for _, label in samples])
    assert len(asked) == 200
    assert np.mean(judge.predict(np.stack(small).reshape(200, 64)) == asked) >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_keeps_its_numbers(demo: tuple[Path, dict[str, str]]) -> None:
    metrics = {row["name"]: row["value"] for row in json.loads(newest(demo[0], "evaluation").read("metrics.json"))}
    assert metrics["PSNR"] >= 26
    assert metrics["codebook usage"] >= 0.8
    assert metrics["prior NLL"] <= 0.75 * metrics["unigram NLL"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_second_demo_is_served_from_the_cache(demo: tuple[Path, dict[str, str]]) -> None:
    place, environment = demo
    store = Store.open(str(place / "store"))
    before = [manifest.digest for manifest in store.artifacts()]
    again = run_demo(place, environment)
    assert [stage["state"] for stage in again["stages"]] == ["Cached"] * 6
    assert [manifest.digest for manifest in store.artifacts()] == before
