"""The report in short, as markdown for a run's page in Prefect: a few numbers, two pictures, the metrics.

Everything that is shown there is kept in the server's database, so pictures are small and the whole stays below 1 MiB.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence

from tasks.report.figures import standalone
from tasks.report.inputs import ReportInputs
from tasks.report.pictures import Picture, fitted, grid
from tasks.report.wording import number, spread_of

__all__ = ["drawing", "escaped", "photograph", "summary_markdown", "table"]

LARGEST_BYTES = 1 << 20
_PICTURE_PX = 64
_MOST_PAIRS = 8
_MOST_CLASSES = 10
_MOST_SAMPLES = 10


def summary_markdown(inputs: ReportInputs) -> str:
    """Write the summary; pictures are shrunk as far as the limit demands."""
    picture_px = _PICTURE_PX
    while True:
        text = _written(inputs, picture_px)
        if len(text.encode()) < LARGEST_BYTES or picture_px <= 1:
            return text
        picture_px //= 2


def _written(inputs: ReportInputs, picture_px: int) -> str:
    parts = [f"# {escaped(inputs.name)}", escaped(inputs.sentence)]
    if inputs.key_numbers:
        rows = [(item.label, f"**{escaped(item.value)}**", item.hint) for item in inputs.key_numbers]
        parts.append(table(("", "", ""), [(escaped(a), b, escaped(c)) for a, b, c in rows]))
    if inputs.originals:
        pairs = [*inputs.originals[:_MOST_PAIRS], *inputs.reconstructions[:_MOST_PAIRS]]
        columns = len(pairs) // 2
        parts += ["## Originals above, reconstructions below", _image("reconstructions", pairs, columns, picture_px)]
    if inputs.samples:
        rows_shown = [row for row in inputs.samples[:_MOST_CLASSES] if row.pictures]
        names = ", ".join(escaped(row.name) for row in rows_shown)
        parts.append("## Samples" + (f": {names}" if names else ""))
        if rows_shown:  # a row a class
            columns = min(_MOST_SAMPLES, *(len(row.pictures) for row in rows_shown))
            drawn = [picture for row in rows_shown for picture in row.pictures[:columns]]
            parts.append(_image("samples", drawn, columns, picture_px))
    if inputs.metrics:
        cells = [
            (
                f"{escaped(str(metric['name']))} {'↑' if metric['higher_is_better'] else '↓'}",
                escaped(f"{number(metric['value'])} {metric.get('unit', '')}".strip()),
                spread_of(metric),
                f"{metric['n']:,}",
                "" if metric.get("floor") is None else number(metric["floor"]),
            )
            for metric in inputs.metrics
        ]
        parts += ["## Metrics", table(("metric", "value", "spread", "n", "real vs. real"), cells)]
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are taken as they are."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _image(alternative: str, pictures: Sequence[Picture], columns: int, picture_px: int) -> str:
    return photograph(alternative, grid([fitted(picture, picture_px) for picture in pictures], columns=columns))


def photograph(alternative: str, png: bytes) -> str:
    """A PNG inside the text."""
    return _embedded(alternative, "image/png", png)


def drawing(alternative: str, svg: str) -> str:
    """A figure inside the text."""
    return _embedded(alternative, "image/svg+xml", standalone(svg).encode())


def _embedded(alternative: str, kind: str, data: bytes) -> str:
    return f"![{alternative}](data:{kind};base64,{base64.b64encode(data).decode('ascii')})"


def escaped(text: str) -> str:
    """Text that neither markdown nor HTML takes for markup."""
    one_line = html.escape(" ".join(text.split()))
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", one_line)
