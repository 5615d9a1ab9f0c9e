"""Distances in a real network's features: equal to the last bit twice, in one process and in four, and after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datasets.store import Artifact, Store
from tasks import evaluate, image_sets
from tasks.evaluation_units import UNITS
from tasks.stage import execute
from tasks.subjects import Subjects
from tests.tiny import Published, Recorder, Stopped, tiny_config
from vqgan_core.config import EvaluateConfig
from vqgan_core.weights import WeightsError

PIECE = 20
NUM_SETS, MOST_PIECES = 5, 3 * 4 + 2 + 1  # of three sets of held-out images; of 40 real ones; of 20 samples


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits are few, and still have to be several pieces for each process."""
    monkeypatch.setattr(image_sets, "PIECE", PIECE)


def settings(published: Published, weights: Path, **execution: Any) -> EvaluateConfig:
    path = weights / "mobilenet_v2_imagenet1001_torchvision.pth"
    values = published.config.evaluate.model_dump() | {
        "extractors": [{"kind": "mobilenet", "weights": str(path), "sha256": "ec527bf8"}],
        "protocol": {"kind": "paper", "num_reference": 40, "num_subsets": 5},
        "perturbation": {"num_neighbours": 4},
    }
    values["execution"] |= execution
    return EvaluateConfig.model_validate(values)


def evaluated(published: Published, config: EvaluateConfig, reporter: Recorder | None = None) -> Artifact:
    store = Store.open(published.config.store)
    subjects = Subjects.of(lambda kind: published.artifacts[kind])
    return store.get(execute(evaluate.request(config, subjects, "tiny"), store, reporter))


@pytest.fixture(scope="module")
def in_one_process(
    published: Published, shared_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Published, Artifact]:
    """The evaluation, and the store that it is in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_sets, "PIECE", PIECE)
        copy = published.copy(tmp_path_factory.mktemp("one") / "store")
        return copy, evaluated(copy, settings(copy, shared_weights))


def test_four_processes_give_the_same_bytes(
    published: Published, in_one_process: tuple[Published, Artifact], shared_weights: Path, tmp_path: Path
) -> None:
    copy, expected = published.copy(tmp_path / "store"), in_one_process[1]
    found = evaluated(copy, settings(copy, shared_weights, num_processes=4))
    assert found.manifest.fingerprint == expected.manifest.fingerprint
    assert found.manifest.digest == expected.manifest.digest
    assert found.read("metrics.json") == expected.read("metrics.json")


def test_a_killed_run_goes_on_and_ends_the_same(
    published: Published, in_one_process: tuple[Published, Artifact], shared_weights: Path, tmp_path: Path
) -> None:
    copy = published.copy(tmp_path / "store")
    config = settings(copy, shared_weights)
    groups_and_pieces = len(UNITS) + 6
    first = Recorder(stop_after=config.classifier.num_steps + groups_and_pieces)
    with pytest.raises(Stopped):
        evaluated(copy, config, first)
    again = Recorder()
    assert evaluated(copy, config, again).manifest.digest == in_one_process[1].manifest.digest
    computed = [label for label, _ in first.updates + again.updates if label.endswith("mobilenet-v2")]
    assert len(computed) <= MOST_PIECES + NUM_SETS + 2, "a finished piece is not computed again"


def test_what_is_measured(in_one_process: tuple[Published, Artifact]) -> None:
    metrics = {row["name"]: row for row in json.loads(in_one_process[1].read("metrics.json"))}
    network, held_out = "mobilenet-v2", metrics["PSNR"]["n"]
    reconstructed, perturbed = (f"{letter}FD-{network}@{held_out}" for letter in "rp")
    expected = {reconstructed, f"rKD-{network}", perturbed, f"pKD-{network}", f"gFD-{network}@20"}
    assert expected < set(metrics)
    assert metrics[f"gFD-{network}@20"]["n_reference"] == 40
    assert metrics[f"gFD-{network}@20"]["follows"].endswith(", but that is of 50,000 samples")
    assert metrics[f"gFD-{network}@20"]["note"].startswith("too few images for 1,280 features")
    assert "0.5 of the indices replaced by one of 4 neighbours" in metrics[perturbed]["note"]
    assert metrics[perturbed]["value"] != metrics[reconstructed]["value"], "of so untrained a tokenizer, either way"
    assert metrics["PSNR"]["low"] < metrics["PSNR"]["value"] < metrics["PSNR"]["high"]


def test_statistics_of_real_images_are_computed_once(
    in_one_process: tuple[Published, Artifact], shared_weights: Path
) -> None:
    copy, artifact = in_one_process
    parts = [entry.path for entry in artifact.manifest.files if "/parts/statistics/" in entry.path]
    assert len(parts) == 2, "validation and training images"
    config = settings(copy, shared_weights)
    other = config.model_copy(update={"perturbation": None, "num_neighbours": 2})
    recorder = Recorder()
    again = evaluated(copy, other, recorder)
    assert not any(label.startswith("real") for label, _ in recorder.updates)
    assert [entry.path for entry in again.manifest.files if "/parts/statistics/" in entry.path] == parts


def test_a_config_without_extractors_keeps_its_recipe(published: Published) -> None:
    recipe = published.config.evaluate.recipe()
    assert not {"extractors", "protocol", "perturbation"} & set(recipe)
    assert tiny_config("store", published.source, evaluate__execution__num_processes=3).evaluate.recipe() == recipe


def test_too_few_images_for_their_neighbours_are_told(published: Published, tmp_path: Path) -> None:
    copy, recorder = published.copy(tmp_path / "store"), Recorder()
    metrics = evaluated(copy, copy.config.evaluate.model_copy(update={"num_neighbours": 1000}), recorder)
    names = {row["name"] for row in json.loads(metrics.read("metrics.json"))}
    assert names.isdisjoint({"FD-domain", "precision", "recall"})
    (told,) = [message for message in recorder.messages if "too few" in message]
    assert "FD-domain, precision and recall with num_neighbours 1000: they need 1001 and 2002" in told


def test_missing_weights_are_told_before_anything_is_measured(published: Published, tmp_path: Path) -> None:
    copy = published.copy(tmp_path / "store")
    told = {"extractors": [{"kind": "mobilenet", "weights": str(tmp_path / "nothing.pth")}]}
    config = EvaluateConfig.model_validate(copy.config.evaluate.model_dump() | told)
    recorder = Recorder()
    with pytest.raises(WeightsError, match=r"nothing\.pth: there is no such file"):
        evaluated(copy, config, recorder)
    assert recorder.updates == []
