"""The page that puts artifacts side by side, and its short form for a run's page in Prefect.

One HTML file with everything inside, in the style of the report. Where two numbers do not depend on the same things,
the page says so instead of showing which one is better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.report.figures import curves_svg
from tasks.report.inputs import Curves
from tasks.report.markdown import escaped, photograph, table
from tasks.report.pictures import Picture, data_uri, fitted, grid
from tasks.report.template import filled
from tasks.report.wording import number, spread_of, without_secrets
from vqgan_core.evaluation import Metric

__all__ = ["Column", "Comparison", "Row", "comparison_markdown", "render_comparison"]

_TEMPLATE = "comparison.html.j2"
_PICTURE_PX = 256
_LEGIBLE_PX = 96
_SHORT = 8
_MARKDOWN_PX = 64
NOT_MEASURED = "–"
_YARDSTICKS = ("unigram NLL", "prior NLL, shuffled condition", "classifier accuracy, real images")  # nothing is good at
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_IN_WORDS = {
    "n_reference": "n of the reference",
    "extractor_sha256": "weights",
    "value_range": "pixels",
    "note": "settings",
}


@dataclass(frozen=True)
class Column:
    """A side: its letter, and the manifest of what was given."""

    letter: str
    manifest: Mapping[str, Any]
    evaluation: str = ""
    """Which evaluation its numbers are of, in words; empty: it has none."""


@dataclass(frozen=True)
class Row:
    """A recipe field that differs: a value for each side."""

    name: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Comparison:
    """Everything on the page; each list over sides is in the order of the columns."""

    columns: Sequence[Column]
    differences: Sequence[Row]
    metrics: Sequence[Mapping[str, Mapping[str, Any]]]
    """Of each side, by name."""
    curves: Sequence[Curves]
    originals: Sequence[Picture]
    reconstructions: Sequence[Sequence[Picture]]
    samples: Sequence[Sequence[Picture]]


def render_comparison(comparison: Comparison) -> str:
    """Write the page."""
    return filled(
        _TEMPLATE,
        columns=[_heading(column) for column in comparison.columns],
        differences=[(row.name, [_shown(value) for value in row.values]) for row in comparison.differences],
        metrics=_metric_rows(comparison),
        curves=[_chart(curves) for curves in comparison.curves if curves.series],
        rows=_picture_rows(comparison),
        samples=_sample_rows(comparison),
    )


def comparison_markdown(comparison: Comparison) -> str:
    """Write the short form: numbers, what differs, and one strip of pictures a side."""
    letters = [column.letter for column in comparison.columns]
    headings = [_heading(column) for column in comparison.columns]
    parts = ["# Side by side"]
    parts.append("\n".join(f"- **{head['letter']}** {escaped(head['title'])}" for head in headings))
    if comparison.differences:
        rows = [
            [escaped(row.name), *(escaped(_shown(value)) for value in row.values)] for row in comparison.differences
        ]
        parts += ["## What differs", table(["", *letters], rows)]
    found = _metric_rows(comparison)
    if found:
        rows = [
            [
                f"{escaped(row['name'])} {row['arrow']}",
                *map(_markdown_cell, row["cells"]),
                row["n"],
                escaped("; ".join(row["departing"])),
            ]
            for row in found
        ]
        parts += ["## Numbers", table(["metric", *letters, "n", "not comparable: what differs"], rows)]
    strips = [("originals", comparison.originals)]
    strips += [
        (f"{letter}: reconstructions", some) for letter, some in zip(letters, comparison.reconstructions, strict=True)
    ]
    strips += [(f"{letter}: samples", some) for letter, some in zip(letters, comparison.samples, strict=True)]
    for title, pictures in strips:
        if pictures:
            strip = grid([fitted(picture, _MARKDOWN_PX) for picture in pictures], columns=len(pictures))
            parts += [f"### {title}", photograph(title, strip)]
    return "\n\n".join(parts) + "\n"


def _heading(column: Column) -> dict[str, str]:
    manifest = column.manifest
    headline = str(manifest.get("summary", {}).get("headline", ""))
    name = f"{manifest['kind']} {str(manifest['fingerprint'])[:_SHORT]}"
    return {
        "letter": column.letter,
        "name": name,
        "headline": headline,
        "title": f"{name}: {headline}" if headline else name,
        "fingerprint": str(manifest["fingerprint"]),
        "created": str(manifest.get("created", ""))[:16].replace("T", " "),
        "evaluation": f"numbers of {column.evaluation}" if column.evaluation else "not evaluated: no numbers",
    }


def _markdown_cell(cell: Mapping[str, Any]) -> str:
    text = escaped(cell["text"] or NOT_MEASURED)
    text = f"**{text}**" if cell["best"] else text
    return f"{text} ({cell['spread']})" if cell["spread"] else text


def _metric_rows(comparison: Comparison) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for side in comparison.metrics for name in side)
    return [_metric_row(name, [side.get(name) for side in comparison.metrics]) for name in names]


def _metric_row(name: str, found: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    known = [Metric.model_validate(metric) for metric in found if metric is not None]
    departing = _departing(known)
    best = None
    if len(known) > 1 and not departing and name not in _YARDSTICKS:
        values = [metric.value for metric in known]
        if len(set(values)) > 1:
            best = max(values) if known[0].higher_is_better else min(values)
    cells = [
        {
            "text": "" if metric is None else f"{number(metric['value'])} {metric.get('unit', '')}".strip(),
            "spread": "" if metric is None else spread_of(metric),
            "best": metric is not None and best is not None and metric["value"] == best,
        }
        for metric in found
    ]
    arrow = "↑" if known[0].higher_is_better else "↓"
    better = "higher is better" if known[0].higher_is_better else "lower is better"
    return {
        "name": name, "arrow": arrow, "better": better, "cells": cells, "n": _counts(known), "departing": departing
    }  # fmt: skip


def _departing(known: Sequence[Metric]) -> list[str]:
    """What the values depend on and do not have in common: its name, and what it is on each side that has a value."""
    protocols = [metric.protocol() for metric in known]
    names = [name for name in protocols[0] if any(protocol[name] != protocols[0][name] for protocol in protocols)]
    return [f"{_IN_WORDS.get(name, name)}: {_told([protocol[name] for protocol in protocols])}" for name in names]


def _told(values: Sequence[Any]) -> str:
    """The values beside each other; of texts of several phrases, the phrases that not all have."""
    phrases = [[part for part in re.split("[;,] ", str(value)) if part] for value in values]
    everywhere = set(phrases[0]).intersection(*phrases)
    own = [", ".join(part for part in some if part not in everywhere) for some in phrases]
    return " / ".join(_DIGEST.sub(lambda found: found[0][:_SHORT], text) or "–" for text in own)


def _counts(known: Sequence[Metric]) -> str:
    return " / ".join(dict.fromkeys(f"{metric.n:,}" for metric in known))


def _chart(curves: Curves) -> dict[str, Any]:
    return {"title": curves.title, "unit": curves.unit, "svg": Markup(curves_svg(curves))}  # noqa: S704 -- our own SVG; matplotlib escapes its text


def _picture_rows(comparison: Comparison) -> list[dict[str, Any]]:
    rows = [_picture_row("original", comparison.originals)]
    for column, pictures in zip(comparison.columns, comparison.reconstructions, strict=True):
        rows.append(_picture_row(column.letter, pictures))
    return [row for row in rows if row["pictures"]]


def _sample_rows(comparison: Comparison) -> list[dict[str, Any]]:
    pairs = zip(comparison.columns, comparison.samples, strict=True)
    return [_picture_row(column.letter, pictures) for column, pictures in pairs if pictures]


def _picture_row(name: str, pictures: Sequence[Picture]) -> dict[str, Any]:
    images = [fitted(picture, _PICTURE_PX) for picture in pictures]
    small = bool(images) and max(images[0].size) < _LEGIBLE_PX
    return {"name": name, "pictures": [data_uri(image) for image in images], "small": small}


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | int | float):
        return number(value)
    return str(without_secrets(value if isinstance(value, str) else str(value)))
