"""Charts take the page's colours, hold what they are given, and are the same each time."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from tasks.report import CodeUse, Curves, curves_from_history
from tasks.report.figures import curves_svg, histogram_svg

CURVES = Curves("Loss", "nats", {"training": [(1, 3.0), (2, 2.0), (3, 1.5)], "validation": [(2, 2.5)]})


def test_colours_are_variables_of_the_page() -> None:
    drawing = curves_svg(CURVES) + histogram_svg(CodeUse([5, 3, 0, 1], usage=0.75, perplexity=2.5))
    assert not re.search(r"(fill|stroke): ?#", drawing), "a colour that a dark page cannot change"
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", drawing))
    template = (Path(__file__).parents[3] / "tasks/report/style.css.j2").read_text()
    assert {"series-0", "series-1", "muted", "rule"} <= used
    assert all(template.count(f"--{name}:") == 2 for name in used), "defined for light and for dark"


def test_text_stays_text() -> None:
    drawing = curves_svg(CURVES)
    for word in ("training", "validation", "step"):
        assert f">{word}</text>" in drawing


def test_few_points_are_marked() -> None:
    few, many = ({"training": [(float(step), 1.0 / step) for step in range(1, 1 + n)]} for n in (5, 300))
    drawings = [curves_svg(Curves("Loss", "", series)) for series in (few, many)]
    marks = [len(re.findall("<use ", drawing)) for drawing in drawings]
    assert marks[0] - marks[1] >= 5


def test_a_dollar_is_no_formula() -> None:
    assert ">cost in $^$</text>" in curves_svg(Curves("t", "", {"cost in $^$": [(1, 1.0), (2, 2.0)]}))


def test_the_machines_matplotlibrc_changes_nothing() -> None:
    first = curves_svg(CURVES)
    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0, "axes.facecolor": "red"}):
        assert curves_svg(CURVES) == first


def test_long_histories_are_thinned_by_means() -> None:
    many = Curves("Loss", "", {"training": [(step, float(step % 2)) for step in range(60_000)]})
    assert len(curves_svg(many)) < 60_000


def test_every_code_counts_however_large_the_codebook() -> None:
    counts = np.zeros(16_384, dtype=np.int64)
    counts[:100] = 7
    drawing = histogram_svg(CodeUse(counts, usage=100 / 16_384, perplexity=100.0))
    assert len(drawing) < 60_000
    assert "codes, most frequent first" in drawing


@pytest.mark.parametrize("counts", [[0, 0, 0], [4]])
def test_extreme_histograms_are_drawn(counts: list[int]) -> None:
    assert "</svg>" in histogram_svg(CodeUse(counts, usage=0.0, perplexity=0.0))


def test_curves_come_from_histories_with_gaps() -> None:
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "validation_loss": 1.5}, {"step": 3, "loss": None}]
    keys = {"training": "loss", "validation": "validation_loss", "absent": "nowhere"}
    curves = curves_from_history(history, keys, title="t", unit="u")
    assert curves.series == {"training": [(1, 2.0), (2, 1.0)], "validation": [(2, 1.5)]}
