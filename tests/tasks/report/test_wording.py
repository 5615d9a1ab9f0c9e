"""How numbers are written."""

from __future__ import annotations

import pytest

from tasks.report.wording import byte_size, depends_on, duration, number, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.95113, "0.9511"), (27.306, "27.31"), (1797, "1,797"), (12345.6, "12,346"), (0, "0"), (1e-5, "1e-05"),
     (True, "yes"), (93.0, "93"), (1500.0, "1,500"), (-0.25, "-0.25")],
)  # fmt: skip
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (1, "100%"), (0.97, "97%"), (0.9688, "97%"), (0.995, "99.5%"), (0.9999, "99.9%"), (0.004, "0.4%"),
     (0.0001, "0.1%"), (0.5, "50%")],
)  # fmt: skip
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (141.2, "2 min 21 s"), (7300, "2 h 1 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (2_345_000, "2.35 MB"), (7 * 10**12, "7 TB")]
)
def test_byte_size(count: int, text: str) -> None:
    assert byte_size(count) == text


def test_a_pixel_metric_depends_on_no_extractor() -> None:
    phrases = depends_on({"reference": "digits/val", "value_range": "[0, 1]", "extractor": "", "note": "windowed"})
    assert phrases == ["against digits/val", "pixels [0, 1]", "windowed"]
