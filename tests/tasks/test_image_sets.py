"""What an extractor is shown: real images as the bytes that they were, reconstructions as the protocol rounds."""

from __future__ import annotations

from typing import Literal

import torch

from tasks.evaluation_units import Bench
from tasks.image_sets import ImageSet, _batches
from tasks.subjects import Subjects
from tests.tiny import Published


def shown(published: Published, source: Literal["real", "reconstructed"], rounding: str) -> torch.Tensor:
    config = published.config.evaluate.model_validate(
        published.config.evaluate.model_dump() | {"protocol": {"kind": "own", "rounding": rounding}}
    )
    bench = Bench(config, Subjects.of(lambda kind: published.artifacts[kind]), torch.device("cpu"))
    count = bench.corpus.num_records("val")
    return torch.cat(list(_batches(bench, ImageSet(source, "val", count), range(count))))


def test_real_images_keep_their_bytes_whatever_the_protocol(published: Published) -> None:
    rounded, truncated = (shown(published, "real", how) for how in ("round", "truncate"))
    assert len(rounded.unique()) > 50, "many levels were tried"
    assert torch.equal(rounded, truncated)


def test_reconstructions_are_rounded_as_the_protocol_says(published: Published) -> None:
    rounded, truncated = (shown(published, "reconstructed", how).int() for how in ("round", "truncate"))
    difference = rounded - truncated
    assert set(difference.unique().tolist()) == {0, 1}
    assert 0.3 < difference.float().mean() < 0.7, "about half of all values are rounded up"
