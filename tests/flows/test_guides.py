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


def test_what_to_do_when_quotes_what_is_said() -> None:
    """The messages in the first column of the table, but for the names and numbers in them."""
    code = "\n".join(path.read_text(encoding="utf-8") for room in CODE for path in (ROOT / room).rglob("*.py"))
    table = (
        (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("## What to do when")[-1].split("## ")[0]
    )
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    quotes = [quote for row in rows for quote in re.findall(r'"([^"]+)"', row)]
    assert len(quotes) >= 5
    for quote in quotes:
        for fragment in re.split(r"…|\d+|[A-Z]{4,}", quote):
            assert fragment.strip() in code, f"nothing says {fragment.strip()!r}"
