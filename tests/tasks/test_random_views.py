"""Contract: tokens of a random view are those of the recorded window, and what is encoded already stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.corpus import Corpus
from datasets.errors import TokenError
from datasets.store import Artifact, Store
from datasets.tokens import TokenDataset
from tasks import encode
from tasks.models import load_tokenizer
from tasks.stage import execute
from tests.tiny import Published
from vqgan_core.config import EncodeConfig
from vqgan_core.config.views import RandomViewsConfig


def encoded(published: Published, random_views: RandomViewsConfig) -> Artifact:
    config = published.config.encode.model_copy(update={"random_views": random_views})
    store = Store.open(published.config.store)
    config = EncodeConfig.model_validate(config.model_dump())
    return store.get(
        execute(encode.request(config, published.artifacts["corpus"], published.artifacts["tokenizer"]), store)
    )


def parts_of(artifact: Artifact) -> dict[str, str]:
    return {e.path: e.sha256 for e in artifact.manifest.files if e.path.endswith(".parquet")}


@pytest.fixture(scope="module")
def copy(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published.copy(tmp_path_factory.mktemp("views") / "store")


def test_the_window_is_recorded_and_is_what_was_encoded(copy: Published) -> None:
    tokens = TokenDataset.open(encoded(copy, RandomViewsConfig(count=2, scale=(0.2, 0.8))))
    assert tokens.views == ("center", "center_flip", "random_00", "random_01")
    corpus, model = (
        Corpus.open(copy.artifacts["corpus"]),
        load_tokenizer(copy.artifacts["tokenizer"], torch.device("cpu")),
    )
    assert tokens.keys("val") == [record.key for record in corpus.records("val", range(corpus.num_records("val")))]
    for view in ("random_00", "random_01"):
        found, windows = tokens.tokens("val", view), tokens.crops("val", view).tolist()
        assert len({tuple(window) for window in windows}) > len(windows) / 2
        assert {window[4] for window in windows} == {0, 1}
        for number in range(0, len(windows), 5):
            top, left, height, width, mirrored = windows[number]
            image = Image.fromarray(corpus.image("val", number)[..., 0]).crop((left, top, left + width, top + height))
            image = image.resize((16, 16), Image.Resampling.BICUBIC)
            pixels = np.asarray(image)[:, ::-1] if mirrored else np.asarray(image)
            batch = torch.from_numpy(pixels / 127.5 - 1.0).float()[None, None]
            with torch.no_grad():
                assert torch.equal(model.encode(batch).flatten(), found[number])
    with pytest.raises(TokenError, match="has no windows of its own"):
        tokens.crops("val", "center")
    assert next(tokens.batches("train", 16, seed=0)(0))["tokens"].shape == (16, 16)


def test_more_views_encode_nothing_anew(copy: Published) -> None:
    before = parts_of(copy.artifacts["tokens"])
    one = parts_of(encoded(copy, RandomViewsConfig(count=1)))
    assert before.items() < one.items()
    two = parts_of(encoded(copy, RandomViewsConfig(count=2)))
    assert one.items() < two.items()
    other = parts_of(encoded(copy, RandomViewsConfig(count=1, seed=1)))
    assert {path for path in one if path in other} == set(before)


def test_another_run_draws_the_same(copy: Published, published: Published, tmp_path: Path) -> None:
    views = RandomViewsConfig(count=1, scale=(0.1, 0.5))
    assert parts_of(encoded(copy, views)) == parts_of(encoded(published.copy(tmp_path / "store"), views))
