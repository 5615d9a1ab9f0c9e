"""README and docs name commands that there are, and messages that the code says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import _parse
from tests.flows.conftest import ROOT

GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = ("flows", "tasks", "datasets", "vqgan_core")


def commands(guide: Path) -> Iterator[str]:
    """Every `tessera …` of a guide's indented and fenced blocks, continued lines joined."""
    text = guide.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"(?m)^ *(?:\$ )?((?:\w+=\S+ )*tessera .+)$", text):
        for part in line.split("&&"):
            if match := re.search(r"\btessera (.+)", part):
                yield match[1]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_command_can_be_given(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(guide):
        given = [word for word in shlex.split(command, comments=True) if word != "…"]
        try:
            _parse(given)
        except SystemExit:
            pytest.fail(f"{guide.name}: tessera {command}: {capsys.readouterr().err}")


def test_there_are_commands_to_look_at() -> None:
    assert sum(1 for guide in GUIDES for _ in commands(guide)) > 30


@pytest.fixture(scope="module")
def failures() -> list[list[str]]:
    """The cells of "What to do when", a row a failure."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.split("## What to do when")[-1].split("## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    return rows


def test_every_failure_is_seen_by_a_test(failures: list[list[str]]) -> None:
    for row in failures:
        where = re.fullmatch(r"\[`(\w+\.py)`\]\(\.\./(tests/[\w/]+\.py)\) `(test_\w+)`", row[3].strip())
        assert where is not None, row
        assert Path(where[2]).name == where[1]
        assert f"def {where[3]}(" in (ROOT / where[2]).read_text(encoding="utf-8"), row


def test_what_to_do_when_quotes_what_is_said(failures: list[list[str]]) -> None:
    """The messages in the first column of the table, but for the names and numbers in them."""
    code = "\n".join(path.read_text(encoding="utf-8") for room in CODE for path in (ROOT / room).rglob("*.py"))
    quotes = [quote for row in failures for quote in re.findall(r'"([^"]+)"', row[0])]
    assert len(quotes) >= 5
    for quote in quotes:
        for fragment in re.split(r"…|\d+|[A-Z]{4,}", quote):
            assert fragment.strip() in code, f"nothing says {fragment.strip()!r}"
