"""The rules of the house that no linter knows: sizes of files and functions, names that say nothing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("flows", "tasks", "datasets", "vqgan_core", "benchmarks", "tests")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
EMPTY_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}


def complaints(path: Path) -> Iterator[str]:
    """Every breach in one file."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if path.name in EMPTY_NAMES:
        yield "this name says nothing: name the file after its one idea"
    if lines > MAX_FILE_LINES:
        yield f"{lines} lines, {MAX_FILE_LINES} are allowed: give its second idea a file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION_LINES} are allowed"


def main() -> int:
    """Print every breach; status 1 if there is one."""
    found = 0
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for complaint in complaints(path):
                sys.stderr.write(f"{path.relative_to(ROOT)}: {complaint}\n")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
