"""Contract: experiments compare ordinary artifacts; what depends on the machine is on their pages alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datasets.store import Artifact, Store
from tasks import train_prior
from tasks.config import PRESETS
from tasks.experiment import Run, compare_factors, compare_priors
from tasks.experiment_config import FactorsExperiment, PriorsExperiment
from tasks.stage import execute
from tests.tiny import Published, Recorder, Stopped
from vqgan_core.config import ConfigError, TokenSpec
from vqgan_core.prior.cost import prior_cost

SNAIL = {"architecture": "pixelsnail", "num_layers": 1, "num_res_blocks": 1, "width": 8, "training.num_steps": 10}


def experiment(published: Published, **fields: Any) -> PriorsExperiment:
    values = published.config.model_dump(mode="json") | {"priors": {"gpt": {}, "snail": SNAIL}} | fields
    return PriorsExperiment.validated(values, origin="test")


def train(published: Published, store: Store) -> dict[str, Artifact]:
    tokens = published.artifacts["tokens"]
    return {
        name: store.get(execute(train_prior.request(config, tokens), store))
        for name, config in experiment(published).each().items()
    }


def test_priors_differ_in_what_is_said_and_in_nothing_else(published: Published) -> None:
    found = experiment(published).each()
    assert found["gpt"] == published.config.prior
    snail = found["snail"]
    assert (snail.architecture, snail.width, snail.training.num_steps) == ("pixelsnail", 8, 10)
    assert snail.training.learning_rate == published.config.prior.training.learning_rate
    with pytest.raises(ConfigError, match=r"priors\.wrong: widht: there is no such field"):
        experiment(published, priors={"wrong": {"widht": 3}}).each()


def test_the_table_does_not_depend_on_the_machine(published: Published, tmp_path: Path) -> None:
    pages, digests = [], set()
    for place in ("a", "b"):
        store = Store.open(str(tmp_path / place))
        priors = train(published, store)
        artifact = store.get(execute(compare_priors(priors, "test"), store))
        digests.add(artifact.ref.digest)
        pages.append(artifact.read("report.html").decode())
    assert len(digests) == 1
    assert pages[0] != pages[1]  # their times
    rows = json.loads(artifact.read("experiment.json"))
    for name, prior in priors.items():
        curve = [json.loads(line) for line in prior.read("curves.jsonl").splitlines()]
        assert rows[name]["validation_nll"] == [[row["step"], row["validation/nll"]] for row in curve]
        assert rows[name]["best_nll"] == prior.manifest.summary["best_validation_nll"]
        assert rows[name]["num_parameters"] == prior.manifest.summary["num_parameters"]
    assert artifact.manifest.summary["best"] == min(rows, key=lambda name: rows[name]["best_nll"])
    assert all(words in pages[0] for words in ("by steps", "by seconds", "by operations", "gpt validation"))


def test_every_validation_has_its_time_also_after_a_stop(published: Published, tmp_path: Path) -> None:
    store, request = (
        Store.open(str(tmp_path)),
        train_prior.request(published.config.prior, published.artifacts["tokens"]),
    )
    with pytest.raises(Stopped):
        execute(request, store, Recorder(stop_after=33))  # after the checkpoint of step 30
    artifact = store.get(execute(request, store))
    laps = [json.loads(line) for line in artifact.read("seconds.jsonl").splitlines()]
    assert [lap["step"] for lap in laps] == [15, 30, 40]
    assert 0 < laps[0]["seconds"] < laps[1]["seconds"] < laps[2]["seconds"]
    assert all(lap["cpu_seconds"] > 0 for lap in laps)
    assert artifact.ref.digest == published.artifacts["prior"].ref.digest


def test_factors_have_levels_and_equal_operations() -> None:
    config = FactorsExperiment.named("digits", ["tokenizer.autoencoder.channel_multipliers=[1, 2]"])
    levels = {f: config.tokenizer_of(f).autoencoder.channel_multipliers for f in config.factors}
    assert levels == {1: (1,), 2: (1, 2), 4: (1, 2, 2), 8: (1, 2, 2, 2), 16: (1, 2, 2, 2, 2)}
    steps = []
    for factor in config.factors:
        assert config.tokenizer_of(factor).autoencoder.downsampling_factor == factor
        spec = TokenSpec(codebook_size=32, height=16 // factor, width=16 // factor, num_classes=10)
        prior = config.prior_of(spec)
        per_step = prior_cost(prior.model(), spec).training_flops_per_image * prior.training.batch_size
        steps.append(prior.training.num_steps)
        assert steps[-1] * per_step <= 1e15 * config.prior_pflop < (steps[-1] + 1) * per_step
    assert steps == sorted(steps)
    small = config.model_copy(update={"prior_pflop": 1e-9})
    with pytest.raises(ConfigError, match="below one step on 256 tokens"):
        small.prior_of(TokenSpec(codebook_size=32, height=16, width=16, num_classes=10))
    with pytest.raises(ConfigError, match="powers of two"):
        FactorsExperiment.named("digits", ["factors=[3]"])


def test_a_factor_is_told_with_all_that_it_led_to(published: Published, tmp_path: Path) -> None:
    of = published.artifacts
    run = Run(*(of[kind] for kind in ("tokenizer", "tokens", "prior", "samples", "evaluation")))
    store = Store.open(str(tmp_path))
    artifact = store.get(execute(compare_factors({4: run}, "test"), store))
    (row,) = json.loads(artifact.read("experiment.json"))
    assert (row["factor"], row["num_tokens"], row["prior_steps"]) == (4, 16, 40)
    assert row["artifacts"]["prior"] == of["prior"].manifest.fingerprint
    metrics = {metric["name"]: metric for metric in json.loads(of["evaluation"].read("metrics.json"))}
    assert row["metrics"] == metrics
    page = artifact.read("report.html").decode()
    assert all(words in page for words in ("f4: PSNR", "f4, 16 tokens", "data:image/png", "downsampling factor f"))
    assert artifact.manifest.summary["best"] == 4


@pytest.mark.parametrize("path", sorted((PRESETS / "experiments").glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_presets_can_be_loaded_and_say_what_they_are(path: Path) -> None:
    opening = path.read_text(encoding="utf-8").partition("name:")[0]
    assert f"tessera experiment {path.parent.name} {path.stem}" in opening
    assert all(word in opening for word in ("command: ", "hardware: ", "expect: "))
    if path.parent.name == "priors":
        assert len(PriorsExperiment.named(path.stem).each()) >= 2
    else:
        config = FactorsExperiment.named(path.stem)
        assert [config.tokenizer_of(f).autoencoder.downsampling_factor for f in config.factors] == [*config.factors]
