"""Contract: what a plan says of a large corpus is what a small one really takes, per image, unit and shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import fsspec
import pytest

from datasets.config import ShardExecution
from datasets.ingest.decode_pool import DecodePool
from datasets.store import Store
from tasks import encode, shard
from tasks.pipeline import Pipeline
from tasks.scale import LADDER, UnitCosts, measure_costs, requests, scale_rows
from tasks.stage import execute
from tests.s3_server import Faults, faults, moto_endpoint, s3_url
from tests.tiny import build, tiny_config, write_digits

__all__ = ["faults", "moto_endpoint", "s3_url"]

COSTS = UnitCosts(1e-5, 1e-3, 2e-5, 100.0, 1e-2, "cpu")


@pytest.fixture
def _one_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with DecodePool(ShardExecution(num_processes=1)) as pool:
        monkeypatch.setattr(shard, "DecodePool", lambda _execution: nullcontext(pool))
        yield


@pytest.mark.usefixtures("_one_pool")
def test_requests_are_what_a_server_counts(s3_url: str, faults: Faults, digit_folder: Path, tmp_path: Path) -> None:
    small = {"shard__images_per_shard": 60, "tokenizer__training__num_steps": 1}
    tokenizer = build(tiny_config(tmp_path / "store", digit_folder, **small), "train_tokenizer")["tokenizer"]
    fs, root = fsspec.core.url_to_fs(f"{s3_url}/images", skip_instance_cache=True)
    source = write_digits(tmp_path / "digits")
    for path in source.rglob("*.png"):
        fs.pipe_file(f"{root}/{path.relative_to(source)}", path.read_bytes())
    config = tiny_config(f"{s3_url}/store", Path("unused"), **small, shard__source__url=f"{s3_url}/images")
    faults.log.clear()
    store = Store.open(config.store)
    corpus = store.get(execute(Pipeline(config).request("shard"), store))
    faults_of_shard = list(faults.log)
    execute(encode.request(config.encode, corpus, tokenizer), store)
    expected = requests(config, 240, corpus.manifest.summary["image_bytes"])
    parts = [(method, path) for method, path, _ in faults.log if "parts" in path]
    assert len(faults.requests("GET", r"/images/.*\.png")) == expected["read"] == 240
    assert sum("images%2F" in path and "list-type" in path for _, path, _ in faults_of_shard) == expected["list"] == 1
    assert sum(method == "PUT" for method, _ in parts) == expected["write"]
    assert len(faults.requests("GET", r"/parts/corpus/.*\.tar")) == expected["shards"] == 8
    looks = sum(method == "HEAD" or (method == "GET" and "list-type" in path) for method, path in parts)
    assert looks == expected["look"]


def test_rows_are_proportional_to_the_images() -> None:
    config = tiny_config("store", Path("nowhere"))
    first, *others = scale_rows(config, LADDER, COSTS)
    for row in others:
        times = row["images"] / first["images"]
        for name in ("read", "core hours", "encode hours (cpu)", "index GB", "tokens GB"):
            assert row[name] == pytest.approx(times * first[name])
    assert first["core hours"] == pytest.approx(1e6 * (1e-5 + 1e-3 + 2e-5) / 3600)
    assert first["units"] == 1e6 / 40


def test_costs_are_measured_here() -> None:
    costs = measure_costs(tiny_config("store", Path("nowhere")))
    assert costs.device == "cpu"
    assert 0 < costs.list_seconds < costs.ingest_seconds < 1
    assert 60 < costs.index_bytes < 300
    assert costs.encode_seconds > 0
