"""Numbers side by side: which may be compared, what stands in the way, and what was never measured."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from tasks.report.comparison import Column, Comparison, comparison_markdown, render_comparison
from tests.tasks.report.example import manifests, metric

Found = Mapping[str, Mapping[str, Any]]


def compared(*sides: Found) -> Comparison:
    nothing: list[list[Any]] = [[] for _ in sides]
    columns = [Column(letter, manifests()[-1], "evaluation 12345678") for letter, _ in zip("ABC", sides, strict=False)]
    return Comparison(columns, [], sides, [], [], nothing, nothing)


def rows_of(comparison: Comparison) -> dict[str, str]:
    """Text of each row of the table of numbers, by the metric's name."""
    page = render_comparison(comparison)
    rows = re.findall(r"<tr>\s*(<td class=\"name\">.*?)</tr>", page, re.DOTALL)
    texts = [" ".join(html.unescape(re.sub("<[^>]*>", " ", row)).split()) for row in rows]
    return {text.split(" ↑")[0].split(" ↓")[0]: text for text in texts}


def named(*metrics: dict[str, Any]) -> Found:
    return {row["name"]: row for row in metrics}


def test_another_constant_stands_in_the_way() -> None:
    near = metric("precision", 0.9, note="k = 3, border included; protocol own")
    far = metric("precision", 0.8, note="k = 5, border included; protocol own with num_neighbours = 5")
    comparison = compared(named(near), named(far))
    row = rows_of(comparison)["precision"]
    assert row.endswith("settings: k = 3, protocol own / k = 5, protocol own with num_neighbours = 5"), row
    assert "best" not in row
    assert "settings: k = 3, protocol own / k = 5" in comparison_markdown(comparison)


def test_other_counts_and_references_are_told_with_their_values() -> None:
    first = metric("KID", 0.1, reference="val split of corpus aaaa", extractor="net", extractor_sha256="a" * 64)
    second = first | {"n": 200, "reference": "val split of corpus bbbb", "extractor_sha256": "b" * 64}
    row = rows_of(compared(named(first), named(second)))["KID"]
    assert row.endswith(
        "n: 90 / 200; reference: val split of corpus aaaa / val split of corpus bbbb; weights: aaaaaaaa / bbbbbbbb"
    )


def test_the_best_of_comparable_numbers_is_marked_and_said() -> None:
    row = rows_of(compared(named(metric("PSNR", 30.0)), named(metric("PSNR", 29.0))))["PSNR"]
    assert row == "PSNR ↑ 30 (best) 29 90"
    equal = rows_of(compared(named(metric("PSNR", 30.0)), named(metric("PSNR", 30.0))))["PSNR"]
    assert "best" not in equal


def test_a_yardstick_has_no_best_value() -> None:
    name = "prior NLL, shuffled condition"
    assert "best" not in rows_of(compared(named(metric(name, 1.0)), named(metric(name, 2.0))))[name]


def test_what_a_side_has_not_measured_is_a_dash() -> None:
    comparison = compared(named(metric("PSNR", 30.0)), {})
    assert rows_of(comparison)["PSNR"] == "PSNR ↑ 30 – 90"
    assert "| PSNR ↑ | 30 | – | 90 |  |" in comparison_markdown(comparison)
