"""Digits from source to prior: their class as a condition, alone and beside a map, here their edges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import PipelineConfig
from tests.tasks.told import CPU, gains, prior, run, tokenizer

SIZE_PX = 16


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    """A config whose tokens are made."""
    return made(tmp_path_factory.mktemp("digits"))


def made(root: Path) -> PipelineConfig:
    """Encode all digits, and their edges."""
    config = PipelineConfig.validated(
        {
            "store": {"url": str(root / "store")},
            "shard": {
                "source": {"kind": "digits"}, "size_px": SIZE_PX, "channels": 1, "validation_fraction": 0.2,
                "images_per_shard": 600, "execution": {"num_processes": 1},
            },
            "tokenizer": tokenizer(SIZE_PX, 2),
            "condition_tokenizers": {"outlines": tokenizer(SIZE_PX, 2, plane="edges")},
            "encode": {"execution": CPU, "conditions": {"edges": {"kind": "plane", "tokenizer": "outlines"}}},
            "prior": prior(condition="class"),
        },
        origin="the test's config",
    )  # fmt: skip
    run(config, "encode")
    return config


@pytest.mark.parametrize(
    ("columns", "names"), [([], ["labels"]), (["edges"], ["labels", "edges"])], ids=["class", "class and map"]
)
def test_the_condition_matters(digits: PipelineConfig, columns: list[str], names: list[str]) -> None:
    found = gains(digits, {"condition": "class", "condition_columns": columns}, names)
    assert all(gain.is_no_chance for gain in found.values()), found
