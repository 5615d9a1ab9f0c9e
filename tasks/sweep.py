"""Stage sweep: sample sets of one prior under many settings → a table of what each is worth, and the best.

The sample sets are artifacts of their own, so that each is drawn once and the best is there to be used. All are judged
by one domain classifier, against the same real images. The unit that survives a kill is one sample set.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from datasets.store import Artifact
from tasks.evaluation_units import UNITS, Bench
from tasks.report import Curves, KeyNumber, ReportInputs, SampleRow, render
from tasks.sample import read_samples
from tasks.stage import Product, Request, Stage, Work, input_of
from tasks.subjects import Subjects
from vqgan_core.config import ConfigError, EvaluateConfig, SampleConfig, SweepConfig, canonical_json
from vqgan_core.training import prepare, resolve_device

STAGE = Stage("sweep", "2", "sweep")
PICTURES_A_POINT = 20


@dataclass(frozen=True)
class Point:
    """One pair of settings, and the images that were drawn under it."""

    guidance: float
    temperature: float
    samples: Artifact


def settings(config: SweepConfig, sample: SampleConfig) -> list[SampleConfig]:
    """What is drawn for each point: the config's own sampling, but for guidance, temperature and number.

    Raises:
        ConfigError: the sampling does not go with these.
    """
    values = sample.model_dump()
    return [
        SampleConfig.validated(
            values | {"guidance": guidance, "temperature": temperature, "num_per_class": config.num_per_class},
            origin="sweep",
        )
        for guidance, temperature in product(config.guidance, config.temperature)
    ]


def request(config: SweepConfig, evaluate: EvaluateConfig, subjects: Subjects, drawn: Sequence[Artifact]) -> Request:
    """Ask for the table.

    Args:
        config: the points.
        evaluate: how sample sets are judged.
        subjects: corpus, tokenizer, tokens and prior; its samples are not looked at.
        drawn: the sample set of each of `settings`, in that order.
    """
    points = [
        Point(guidance, temperature, samples)
        for (guidance, temperature), samples in zip(product(config.guidance, config.temperature), drawn, strict=True)
    ]
    inputs = tuple(map(input_of, (subjects.corpus, subjects.tokenizer, *drawn)))
    label = f"sweep · {len(points)} settings · {config.metric}"
    recipe = {**config.recipe(), "evaluate": evaluate.recipe()}
    return Request(STAGE, recipe, inputs, partial(_build, config, evaluate, subjects, points), label)


def _build(
    config: SweepConfig, evaluate: EvaluateConfig, subjects: Subjects, points: Sequence[Point], work: Work
) -> Product:
    device = resolve_device(config.execution.device)
    prepare(device, num_threads=config.execution.num_threads)
    bench = Bench(evaluate, subjects, device)
    if bench.corpus.num_classes < 2:
        raise ValueError("a sweep judges by the domain classifier, which needs a corpus of at least two classes")
    if work.workspace.get("classifier.safetensors") is None:
        UNITS["classifier"](bench, work)
    rows = []
    with work.reporter.bar("sweep", len(points), "settings") as bar:
        for done, point in enumerate(points, start=1):
            rows.append(_once(work, f"point-{done:04d}.json", bench, point))
            bar.update(done)
    best = _best(config, rows)
    table = {"metric": config.metric, "best": best, "points": rows}
    files = {"sweep.json": canonical_json(table), "sweep.csv": _csv(rows)}
    summary = {
        "headline": _title(config, rows[best]),
        "best": {name: rows[best][name] for name in ("guidance", "temperature", "samples")},
        "num_points": len(rows),
    }
    views = {"report.html": _page(config, points, rows, best).encode()}
    return Product(files=files, views=views, summary=summary, device=str(device))


def _once(work: Work, name: str, bench: Bench, point: Point) -> dict[str, Any]:
    """A point's row from a dead run, or measured now and kept."""
    if (data := work.workspace.get(name)) is None:
        work.lease.check()
        its = replace(bench, subjects=replace(bench.subjects, samples=point.samples))
        metrics = UNITS["generation"](its, work)
        row = {
            "guidance": point.guidance,
            "temperature": point.temperature,
            "samples": point.samples.manifest.fingerprint,
            "metrics": {metric.name: metric.model_dump(mode="json") for metric in metrics},
        }
        data = canonical_json(row)
        work.workspace.put(name, data)
    found: dict[str, Any] = json.loads(data)
    return found


def _best(config: SweepConfig, rows: Sequence[dict[str, Any]]) -> int:
    """Number of the best row; of equal ones the first."""
    measured = set.intersection(*(set(row["metrics"]) for row in rows))
    if config.metric not in measured:
        raise ConfigError(
            f"sweep.metric {config.metric!r} was not measured: choose one of {', '.join(sorted(measured)) or 'none'} "
            "(more images may make more metrics possible)"
        )
    values = [row["metrics"][config.metric] for row in rows]
    sign = -1 if values[0]["higher_is_better"] else 1
    return min(range(len(rows)), key=lambda index: sign * values[index]["value"])


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """The table for a spreadsheet."""
    names = sorted({name for row in rows for name in row["metrics"]})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["guidance", "temperature", *names, "samples"])
    for row in rows:
        values = [row["metrics"].get(name, {}).get("value", "") for name in names]
        writer.writerow([row["guidance"], row["temperature"], *values, row["samples"]])
    return text.getvalue().encode()


def _page(config: SweepConfig, points: Sequence[Point], rows: Sequence[dict[str, Any]], best: int) -> str:
    names = sorted({name for row in rows for name in row["metrics"]}, key=lambda name: (name != config.metric, name))
    chosen = rows[best]
    return render(
        ReportInputs(
            name="Sweep of guidance and temperature",
            sentence=f"{len(rows)} sample sets of one prior, {config.num_per_class} images of each class.",
            key_numbers=[
                KeyNumber("Guidance", f"{chosen['guidance']:g}", f"best by {config.metric}"),
                KeyNumber("Temperature", f"{chosen['temperature']:g}", f"best by {config.metric}"),
                KeyNumber(config.metric, f"{chosen['metrics'][config.metric]['value']:.4g}", "of the best"),
            ],
            curves=[_chart(config, rows, name) for name in names],
            samples=[_row(config, point, row) for point, row in zip(points, rows, strict=True)],
            manifests=[point.samples.manifest.model_dump(mode="json") for point in points],
        )
    )


def _chart(config: SweepConfig, rows: Sequence[dict[str, Any]], name: str) -> Curves:
    series = {
        f"temperature {temperature:g}": [
            (row["guidance"], row["metrics"][name]["value"])
            for row in rows
            if row["temperature"] == temperature and name in row["metrics"]
        ]
        for temperature in config.temperature
    }
    return Curves(name, "", series, horizontal="guidance")


def _row(config: SweepConfig, point: Point, row: dict[str, Any]) -> SampleRow:
    pictures = [np.asarray(pixels) for pixels, _ in read_samples(point.samples)]
    shown = pictures[:: max(1, len(pictures) // PICTURES_A_POINT)][:PICTURES_A_POINT]
    return SampleRow(_title(config, row), shown)


def _title(config: SweepConfig, row: dict[str, Any]) -> str:
    value = row["metrics"][config.metric]["value"]
    return f"guidance {row['guidance']:g}, temperature {row['temperature']:g}: {config.metric} {value:.4g}"
