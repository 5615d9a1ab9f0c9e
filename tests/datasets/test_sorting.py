"""Contract: rows come out sorted, equal ones as they came in, from few files however many rows there are."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from datasets.sorting import SortedRows

NUM_ROWS = 2_000  # with three in memory: runs of three sizes


def rows() -> list[tuple[int, str | None]]:
    generator = random.Random(0)
    return [(generator.randrange(300), None if number % 7 == 0 else f"{number}") for number in range(NUM_ROWS)]


@pytest.mark.parametrize("rows_in_memory", [3, NUM_ROWS, NUM_ROWS + 1])
def test_equal_rows_stay_in_the_order_in_which_they_came(rows_in_memory: int) -> None:
    taken = SortedRows(rows=rows(), rows_in_memory=rows_in_memory)
    expected = sorted(rows(), key=lambda row: row[0])
    assert len(taken) == NUM_ROWS
    assert list(taken) == expected
    assert list(zip(taken, taken, strict=True)) == [(row, row) for row in expected], "two readers at once"
    taken.add((-1, "late"))
    assert next(iter(taken)) == (-1, "late")


def test_all_of_the_first_columns_count() -> None:
    taken = SortedRows(num_keys=2, rows=[(1, "b", 0), (1, "a", 1), (0, "z", 2)], rows_in_memory=1)
    assert [row[2] for row in taken] == [2, 1, 0]


def test_names_that_are_no_text_survive() -> None:
    name = os.fsdecode(b"\xff\n.png")
    assert list(SortedRows(rows=[(name,), ("a",)], rows_in_memory=1)) == [("a",), (name,)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system lists them")
def test_there_are_few_files_however_many_rows() -> None:
    def num_open() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - its entries vanish while one looks

    before = num_open()
    taken = SortedRows(rows_in_memory=1)
    most = 0
    for row in rows():
        taken.add(row)
        most = max(most, num_open() - before)
    assert 10 < most <= 3 * 15 + 1
    del taken
    assert num_open() == before
