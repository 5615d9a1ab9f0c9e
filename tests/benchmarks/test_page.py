"""What is measured is what was done, and the page says of each target whether it was reached, and what bounds it."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks import page
from benchmarks.pairs import Pair, Result, measure
from benchmarks.roofline import Roofline
from benchmarks.targets import Target

ROOFLINE = Roofline({"fp32": 1e15, "bf16": 4e15}, bandwidth=1e15)
SPEED, SHARE = Target("speed", 2), Target("use of the device", share=0.45)


def pair(name: str, target: Target | None = None, precision: str = "fp32") -> Pair:
    return Pair(name, "images/s", 10, print, print, flops=1.0, precision=precision, target=target)


def result(ratio: float, share: float | None, own: Pair, peer: float | None = None) -> Result:
    return Result(own, ratio * 100, 100.0, ratio, (ratio - 0.1, ratio + 0.1), share, "memory", peer)


def rows_of(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row for row in cells}


MATRIX = torch.randn(160, 160)


def once() -> None:
    for _ in range(40):
        MATRIX @ MATRIX


def thrice() -> None:
    for _ in range(3):
        once()


def test_a_ratio_is_that_of_the_work() -> None:
    own = Pair("products", "products/s", 40, once, thrice, flops=40 * 2 * 160**3, repeats=3)
    found = measure(own, ROOFLINE)
    low, high = found.quartiles
    assert 1.5 < found.ratio < 6
    assert low <= found.ratio <= high
    assert found.share == pytest.approx(own.flops * found.ours / own.count / 1e15)
    assert found.limit == "fp32 matrix products"
    assert "products/s" in found.line()


def test_every_way_has_its_turn_and_a_first_one_that_does_not_count() -> None:
    calls: list[str] = []
    own = Pair("", "", 1, lambda: calls.append("ours"), lambda: calls.append("plain"), repeats=3)

    def peer() -> float:
        calls.append("peer")
        return 1.0

    measure(own, None, peer)
    assert calls == ["ours", "plain", "peer"] * 4


def test_what_bounds_is_what_takes_longer() -> None:
    roofline = Roofline({"fp32": 100.0, "bf16": 400.0}, bandwidth=10.0)
    assert roofline.least_seconds(200, 10, "fp32") == 2
    assert roofline.limit(200, 10, "fp32") == "fp32 matrix products"
    assert roofline.least_seconds(200, 10, "bf16") == 1
    assert roofline.limit(200, 10, "bf16") == "memory"


def test_a_target_is_reached_by_its_best_row() -> None:
    slow, fast = result(1.4, 0.5, pair("a", SPEED)), result(2.3, 0.4, pair("b", SPEED, "bf16"))
    text = page.rendered([slow, fast, result(0.5, 0.6, pair("c", SHARE))], ROOFLINE)
    targets = rows_of(text.split("## Everything")[0])
    assert targets["speed"] == ["speed", "≥ 2 ×", "2.30 ×", "b", "yes"]
    assert targets["use of the device"][1:] == ["≥ 45% of the bound", "60%", "c", "yes"]
    assert list(rows_of(text.split("## Everything")[1]))[2:] == ["a", "b", "c"]


def test_a_target_that_is_not_reached_names_its_bound() -> None:
    text = page.rendered([result(1.5, 0.75, pair("a", SPEED))], ROOFLINE)
    said = rows_of(text)["speed"][-1]
    assert said == "no: it runs at 75% of what memory allows; at all of that the ratio would be 2.0 ×"


def test_the_page_says_where_and_how() -> None:
    text = page.rendered([result(2.5, None, pair("a", SPEED), peer=1.25)], ROOFLINE)
    assert re.search(r"torch [\d.]+\S*, Python [\d.]+, commit \S+", text)
    assert "1,000,000 GFLOP/s in fp32" in text
    assert "1000000.0 GB/s" in text
    assert "1.25 ×" in text
    assert "python -m benchmarks" in text


def test_what_is_around_the_work_is_told_a_unit_of_it() -> None:
    found = measure(Pair("shards", "shards/s", 4, thrice, once, repeats=3, per="shard"))
    low, middle, high = found.excess
    assert low <= middle <= high
    assert 0.4 < middle / (1000 / found.ours) < 0.9, "two thirds of a unit's time"
    assert f"+ {middle:.1f} ms a shard ({low:.1f} to {high:.1f})" in found.line()
    costs, everything = page.rendered([found], ROOFLINE).split("## What Prefect costs")[1].split("## Everything")
    assert rows_of(costs)["shards"][-2:] == [f"{middle:.1f} ms a shard", f"{low:.1f} to {high:.1f}"]
    assert "shards" not in rows_of(everything)
