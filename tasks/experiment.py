"""Stages experiment_priors and experiment_factors: finished artifacts → one table and one page that compares them.

Everything that is compared is an artifact of its own, trained, sampled and measured by the usual stages. The table
holds what is the same wherever it is computed; wall-clock times, which are not, are on the page alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets.store import Artifact
from tasks.models import prior_config, tokenizer_config
from tasks.report import Curves, KeyNumber, ReportInputs, SampleRow, render
from tasks.sample import read_samples
from tasks.stage import Product, Request, Stage, Work, input_of
from tasks.stopwatch import NAME as SECONDS
from tasks.stopwatch import read_laps
from vqgan_core.config import TrainPriorConfig, canonical_json
from vqgan_core.prior.cost import prior_cost

PRIORS = Stage("experiment_priors", "1", "experiment")
FACTORS = Stage("experiment_factors", "1", "experiment")
PICTURES = 20


def compare_priors(priors: Mapping[str, Artifact], title: str) -> Request:
    """Ask for the comparison of priors on one token dataset: validation NLL against steps and against seconds.

    Args:
        priors: by the names that they have in the charts.
        title: of the page; not part of the fingerprint.
    """
    inputs = tuple(map(input_of, priors.values()))
    build = partial(_build_priors, dict(priors), title)
    return Request(PRIORS, {"names": list(priors)}, inputs, build, f"compare {len(priors)} priors")


@dataclass(frozen=True)
class Run:
    """What a pipeline with one factor led to."""

    tokenizer: Artifact
    tokens: Artifact
    prior: Artifact
    samples: Artifact
    evaluation: Artifact

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All, in order."""
        return (self.tokenizer, self.tokens, self.prior, self.samples, self.evaluation)


def compare_factors(runs: Mapping[int, Run], title: str) -> Request:
    """Ask for the comparison of downsampling factors.

    Args:
        runs: by factor.
        title: of the page; not part of the fingerprint.
    """
    inputs = tuple(input_of(artifact) for run in runs.values() for artifact in run.artifacts)
    build = partial(_build_factors, dict(runs), title)
    return Request(FACTORS, {"factors": list(runs)}, inputs, build, f"compare {len(runs)} factors")


def _build_priors(priors: Mapping[str, Artifact], title: str, work: Work) -> Product:
    rows = {}
    with work.reporter.bar("compare priors", len(priors), "priors") as bar:
        for done, (name, artifact) in enumerate(priors.items(), start=1):
            rows[name] = _prior_row(artifact)
            bar.update(done)
    best = min(rows, key=lambda name: rows[name]["best_nll"])
    headline = ", ".join(f"{name} {row['best_nll']:.3f}" for name, row in rows.items()) + " nats/token"
    return Product(
        files={"experiment.json": canonical_json(rows)},
        views={"report.html": render(_priors_page(priors, rows, title)).encode()},
        summary={"headline": headline, "best": best, "best_nll": {name: row["best_nll"] for name, row in rows.items()}},
    )


def _prior_row(artifact: Artifact) -> dict[str, Any]:
    """A prior's size, its operations a step, and its validation NLL by step."""
    config, spec = prior_config(artifact)
    cost = prior_cost(config, spec)
    batch_size = TrainPriorConfig.validated(artifact.manifest.recipe, origin="its recipe").training.batch_size
    curve = [json.loads(line) for line in artifact.read("curves.jsonl").splitlines()]
    points = [[row["step"], row["validation/nll"]] for row in curve if row.get("validation/nll") is not None]
    return {
        "prior": artifact.manifest.fingerprint,
        "architecture": config.architecture,
        "num_parameters": cost.num_parameters,
        "flops_per_step": cost.training_flops_per_image * batch_size,
        "validation_nll": points,
        "best_nll": min(value for _, value in points),
    }


def _priors_page(priors: Mapping[str, Artifact], rows: Mapping[str, dict[str, Any]], title: str) -> ReportInputs:
    by_step = {f"{name} validation": row["validation_nll"] for name, row in rows.items()}
    by_flops = {
        f"{name} validation": [(step * row["flops_per_step"] / 1e12, value) for step, value in row["validation_nll"]]
        for name, row in rows.items()
    }
    times = {name: {lap["step"]: lap for lap in _laps(artifact)} for name, artifact in priors.items()}
    charts = [Curves("Validation NLL by steps", "nats a token", by_step)]
    for field, axis in (("seconds", "seconds"), ("cpu_seconds", "seconds of processor time")):
        series = {
            f"{name} validation": [
                (times[name][step][field], value) for step, value in row["validation_nll"] if step in times[name]
            ]
            for name, row in rows.items()
        }
        charts.append(Curves(f"Validation NLL by {axis}", "nats a token", series, horizontal=axis))
    charts.append(Curves("Validation NLL by operations", "nats a token", by_flops, horizontal="TFLOP"))
    return ReportInputs(
        name=title,
        sentence="Priors of the same tokens, trained by the same loop, and how fast each learns.",
        key_numbers=[
            KeyNumber(name, f"{row['best_nll']:.3f}", f"nats a token, {row['num_parameters'] / 1e6:.2f} M parameters")
            for name, row in rows.items()
        ],
        curves=charts,
        manifests=[artifact.manifest.model_dump(mode="json") for artifact in priors.values()],
    )


def _laps(artifact: Artifact) -> list[dict[str, Any]]:
    """Times of the validations; none of a prior that was trained before they were kept."""
    has_times = any(entry.path == SECONDS for entry in artifact.manifest.views)
    return read_laps(artifact.read(SECONDS)) if has_times else []


def _build_factors(runs: Mapping[int, Run], title: str, work: Work) -> Product:
    rows = []
    with work.reporter.bar("compare factors", len(runs), "factors") as bar:
        for done, (factor, run) in enumerate(runs.items(), start=1):
            rows.append(_factor_row(factor, run))
            bar.update(done)
    judged = [row for row in rows if "FD-domain" in row["metrics"]]
    best = min(judged, key=lambda row: row["metrics"]["FD-domain"]["value"])["factor"] if judged else None
    told = f"best f{best} by FD-domain" if best is not None else "no samples could be judged"
    headline = f"f {', '.join(str(factor) for factor in runs)}: {told}"
    return Product(
        files={"experiment.json": canonical_json(rows)},
        views={"report.html": render(_factors_page(runs, rows, title)).encode()},
        summary={"headline": headline, "best": best},
    )


def _factor_row(factor: int, run: Run) -> dict[str, Any]:
    config, spec = prior_config(run.prior)
    training = TrainPriorConfig.validated(run.prior.manifest.recipe, origin="its recipe").training
    flops = prior_cost(config, spec).training_flops_per_image * training.batch_size * training.num_steps
    metrics = {metric["name"]: metric for metric in json.loads(run.evaluation.read("metrics.json"))}
    return {
        "factor": factor,
        "num_tokens": spec.num_tokens,
        "codebook_size": tokenizer_config(run.tokenizer).codebook_size,
        "prior_steps": training.num_steps,
        "prior_flops": flops,
        "artifacts": {artifact.manifest.kind: artifact.manifest.fingerprint for artifact in run.artifacts},
        "metrics": metrics,
    }


def _factors_page(runs: Mapping[int, Run], rows: list[dict[str, Any]], title: str) -> ReportInputs:
    shown = ("PSNR", "prior bits/dim", "FD-domain", "classifier accuracy, samples")
    points = {
        name: [(row["factor"], row["metrics"][name]["value"]) for row in rows if name in row["metrics"]]
        for name in shown
    }
    charts = [Curves(name, "", {name: points[name]}, horizontal="downsampling factor f") for name in shown]
    return ReportInputs(
        name=title,
        sentence="One pipeline with tokenizers of several downsampling factors; every prior's training computes the "
        "same number of operations.",
        key_numbers=[
            KeyNumber(f"f{row['factor']}", _tokens(row), f"{row['prior_steps']:,} steps of the prior") for row in rows
        ],
        curves=charts,
        samples=[_pictures(row, runs[row["factor"]].samples) for row in rows],
        metrics=[
            {**row["metrics"][name], "name": f"f{row['factor']}: {name}"}
            for name in shown
            for row in rows
            if name in row["metrics"]
        ],
        manifests=[artifact.manifest.model_dump(mode="json") for run in runs.values() for artifact in run.artifacts],
    )


def _pictures(row: dict[str, Any], samples: Artifact) -> SampleRow:
    pictures = [pixels for pixels, _ in read_samples(samples)]
    shown = pictures[:: max(1, len(pictures) // PICTURES)][:PICTURES]
    return SampleRow(f"f{row['factor']}, {_tokens(row)}", shown)


def _tokens(row: Mapping[str, Any]) -> str:
    return f"{row['num_tokens']} token{'s' if row['num_tokens'] > 1 else ''}"
