"""Contract: a corpus that has grown by images of another kind is noticed, and stops the stage if told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.config import ShardExecution
from datasets.errors import DriftTooLarge
from datasets.ingest.decode_pool import DecodePool
from datasets.store import Artifact, Store
from tasks import encode, shard
from tasks.config import PipelineConfig
from tasks.drift import Drift, judge
from tasks.pipeline import Pipeline
from tasks.stage import execute
from tests.tiny import Recorder, build, tiny_config, write_digits
from vqgan_core.config import EncodeExecution
from vqgan_core.quantizers import divergence_bits


def test_divergence_of_equal_and_of_disjoint_histograms() -> None:
    counts = np.array([5, 0, 3, 2])
    assert divergence_bits(counts, 10 * counts) == pytest.approx(0, abs=1e-12)
    assert divergence_bits(np.array([4, 0]), np.array([0, 9])) == pytest.approx(1)
    # By hand: P = (1, 0), Q = (1/2, 1/2), M = (3/4, 1/4): H(M) - (0 + 1) / 2.
    assert divergence_bits(np.array([2, 0]), np.array([1, 1])) == pytest.approx(0.8112781244591328 - 0.5)


def test_chance_is_what_the_formula_says() -> None:
    generator = np.random.default_rng(0)
    found = [divergence_bits(*generator.multinomial([400, 900], np.full(16, 1 / 16))) for _ in range(400)]
    assert np.mean(found) == pytest.approx(15 / (8 * np.log(2)) * (1 / 400 + 1 / 900), rel=0.1)


def test_what_is_said_of_a_drift() -> None:
    small, large = (Drift(bits, 0.02, 100, 1000) for bits in (0.05, 0.3))
    assert judge(None, EncodeExecution()) is None
    assert judge(small, EncodeExecution()) is None
    said = judge(large, EncodeExecution())
    assert said is not None
    assert "0.300 bits" in said
    with pytest.raises(DriftTooLarge, match=r"above execution.drift_limit_bits 0.2: train a tokenizer"):
        judge(large, EncodeExecution(drift_limit_bits=0.2))


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        yield pool


@pytest.fixture
def _one_pool(pool: DecodePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "DecodePool", lambda _execution: nullcontext(pool))


@pytest.mark.usefixtures("_one_pool")
def test_new_images_of_another_kind_are_noticed(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "digits", 60)
    config = tiny_config(tmp_path / "store", source, shard__images_per_shard=30, tokenizer__training__num_steps=10)
    made = build(config, "encode")
    assert made["tokens"].manifest.summary["drift"] is None
    tokenizer = made["tokenizer"]
    for number in range(20):
        Image.new("L", (9, 9), 200 + number).save(source / "0" / f"flat{number}.png")
    recorder = Recorder()
    grown = _encode(config, tokenizer, recorder)
    drift = grown.manifest.summary["drift"]
    assert drift["new_tokens"] == 20 * 16 * 2
    assert drift["reference_tokens"] == 60 * 16 * 2
    assert drift["bits"] > 0.1 > drift["expected_bits"]
    assert any("consider a new tokenizer" in message for message in recorder.messages)
    Image.new("L", (9, 9), 250).save(source / "0" / "one more.png")
    strict = config.encode.model_copy(update={"execution": EncodeExecution(device="cpu", drift_limit_bits=0.05)})
    with pytest.raises(DriftTooLarge):
        _encode(config.model_copy(update={"encode": strict}), tokenizer, recorder)


def _encode(config: PipelineConfig, tokenizer: Artifact, recorder: Recorder) -> Artifact:
    store = Store.open(config.store)
    corpus = store.get(execute(Pipeline(config).request("shard"), store))
    return store.get(execute(encode.request(config.encode, corpus, tokenizer), store, recorder))
