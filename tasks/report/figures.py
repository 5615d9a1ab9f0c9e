"""Charts of the report, as SVG that lies inside the page and takes its colours: a dark page has light lines.

Matplotlib draws with stand-in colours, which are then replaced by the page's CSS variables. Text stays text, in the
page's font. The same data give the same bytes. Matplotlib is imported by the first figure: it takes more than half a
second, and few processes of a run draw.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.report.inputs import CodeUse, Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves_svg", "histogram_svg", "standalone"]

# Stand-in → CSS variable. The stand-ins are colours that nothing else in a figure has.
_INK, _MUTED, _RULE = "#010101", "#020202", "#030303"
_SERIES = ("#040404", "#050505", "#060606", "#070707", "#080808")
_VARIABLES = {_INK: "ink", _MUTED: "muted", _RULE: "rule"} | {c: f"series-{i}" for i, c in enumerate(_SERIES)}

#: Where no page gives the variables: colours that can be read on white and on black.
_ON_ANY_PAPER = {
    "ink": "#7c7f88", "muted": "#7c7f88", "rule": "#9b9da555", "series-0": "#4f86c6", "series-1": "#d07a43",
    "series-2": "#4c9c7e", "series-3": "#9a74b5", "series-4": "#ad9638",
}  # fmt: skip
_SIZE_INCHES = (5.2, 2.9)
_MOST_BARS = 400
_MOST_POINTS = 600
_FEW = 20
_CLEANING = (
    (r"^.*?<svg[^>]*>", ""),  # prolog and namespaces, which HTML does without
    (r"<style.*?</style>", ""),  # would apply to the whole page
    (r'<g id="[^"]*">', "<g>"),  # the same in every figure; only what is referred to keeps its id
    (r"font-family: [^;]*; ", ""),  # the page's font
    (r" xlink:href=", " href="),
)
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "tessera",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _RULE,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def curves_svg(curves: Curves) -> str:
    """Lines over training steps."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator  # noqa: PLC0415 - see above

    with _style():
        figure, axes = _blank()
        for colour, (name, points) in zip(_SERIES, curves.series.items(), strict=False):
            steps, values = _thinned(points)
            measured = "validation" in name or len(points) <= _FEW
            axes.plot(steps, values, color=colour, label=name, marker="o" if measured else None, markersize=3.2)
        if curves.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(_thousands))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(curves.horizontal)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=curves.horizontal == "step"))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        _legend_above(axes, len(curves.series))
        return _svg(figure, curves.title)


def histogram_svg(use: CodeUse) -> str:
    """Share of each code, most frequent first, beside the level at which all would be equally frequent."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415 - see above

    shares = _shares(use.counts)
    ranks = np.linspace(0, len(use.counts), len(shares) + 1)
    with _style():
        figure, axes = _blank()
        axes.stairs(shares, ranks, fill=True, color=_SERIES[0], alpha=0.85, linewidth=0, label="codes")
        axes.axhline(1 / len(use.counts), color=_SERIES[1], linestyle=(0, (4, 3)), linewidth=1.4, label="all equal")
        axes.set_xlim(0, len(use.counts))
        axes.set_xlabel("codes, most frequent first")
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _legend_above(axes, 2)
        return _svg(figure, "Code histogram")


def standalone(drawing: str) -> str:
    """A figure as a document of its own, for places that know neither our variables nor our font."""
    variables = ";".join(f"--{name}:{colour}" for name, colour in _ON_ANY_PAPER.items())
    width, height = (round(72 * inches) for inches in _SIZE_INCHES)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    return drawing.replace("<svg ", f'{opening}style="{variables};font-family:system-ui,sans-serif" ', 1)


@contextmanager
def _style() -> Iterator[None]:
    """Ours alone: a matplotlibrc of the machine must not change a report."""
    import matplotlib as mpl  # noqa: PLC0415 - see above

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _shares(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Sorted shares, averaged over neighbours where there are more codes than a screen has columns."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))[::-1]
    shares = ordered / max(ordered.sum(), 1.0)
    parts = np.array_split(shares, min(len(shares), _MOST_BARS))
    return np.array([part.mean() for part in parts])


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of neighbouring points where there are more than a screen shows."""
    table = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    parts = np.array_split(table, min(len(table), _MOST_POINTS)) if len(table) else []
    means = np.array([part.mean(axis=0) for part in parts]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def _blank() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _legend_above(axes: Axes, num_series: int) -> None:
    if num_series:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=min(num_series, 4), handlelength=1.2)


def _svg(figure: Figure, title: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415 - see above

    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": title}):  # ids of two figures on one page must differ
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawing = buffer.getvalue()
    for pattern, replacement in _CLEANING:
        drawing = re.sub(pattern, replacement, drawing, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        drawing = drawing.replace(colour, f"var(--{variable})")
    width, height = (72 * inches for inches in _SIZE_INCHES)
    label = html.escape(title, quote=True)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{drawing.strip()}'


def _thousands(value: float, _: int | None = None) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def _percent(value: float, _: int | None = None) -> str:
    return f"{100 * value:.3g} %"
