"""The decision about new images: a table, and the divergence against figures that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.retrain_config import RetrainConfig
from tasks.retraining import Change, Course, change_between, decide, jensen_shannon
from tests.tiny import Published

CONFIG = RetrainConfig(min_new_images=10, max_divergence=0.25)


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


def test_divergence_of_known_histograms() -> None:
    many = 10**9  # chance is nothing
    assert jensen_shannon(np.array([many, 0]), np.array([0, many])) == pytest.approx(1.0)
    assert jensen_shannon(np.array([many, many]), np.array([many, many])) == 0.0
    # ½·KL((1, 0), (¾, ¼)) + ½·KL((½, ½), (¾, ¼)) in bits
    expected = 0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(2 / 3) + 0.5 * np.log2(2))
    assert jensen_shannon(np.array([many, 0]), np.array([many, many])) == pytest.approx(expected, rel=1e-6)


def test_chance_alone_is_no_divergence() -> None:
    """Two samples of one distribution: zero on average up to the noise, and far below what a shift gives."""
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(256))
    found = [
        jensen_shannon(generator.multinomial(2000, shares), generator.multinomial(10**6, shares)) for _ in range(50)
    ]
    assert np.mean(found) < 0.003
    shifted = jensen_shannon(generator.multinomial(2000, shares[::-1]), generator.multinomial(10**6, shares))
    assert shifted > 0.2


def test_a_token_dataset_does_not_differ_from_itself(published: Published) -> None:
    tokens = published.artifacts["tokens"]
    assert change_between(tokens, tokens) == Change(0, 0, 0.0)
