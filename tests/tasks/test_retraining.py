"""The decision about new images, as a table."""

from __future__ import annotations

import pytest

from tasks.retrain_config import RetrainConfig
from tasks.retraining import Change, Course, change_between, decide
from tests.tiny import Published

CONFIG = RetrainConfig(min_new_images=10, max_drift_bits=0.25)


@pytest.mark.parametrize(
    ("change", "course"),
    [
        (Change(0, 0, 0.0), Course.UNCHANGED),
        (Change(9, 0, 0.0), Course.UNCHANGED),
        (Change(9, 0, 1.0), Course.UNCHANGED),
        (Change(10, 0, 0.25), Course.GROWN),
        (Change(0, 10, 0.0), Course.GROWN),
        (Change(5, 5, 0.0), Course.GROWN),
        (Change(10, 0, 0.26), Course.DRIFTED),
        (Change(10**6, 10**6, 1.0), Course.DRIFTED),
    ],
)
def test_the_course(change: Change, course: Course) -> None:
    assert decide(change, CONFIG) is course


def test_a_token_dataset_does_not_differ_from_itself(published: Published) -> None:
    tokens = published.artifacts["tokens"]
    assert change_between(tokens, tokens) == Change(0, 0, 0.0)
