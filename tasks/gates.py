"""Whether a candidate may take the place of what is current: gates over the metrics of two evaluations.

Pure functions of numbers; where they come from is the caller's business. Both evaluations should be over the same
images: `retrain` evaluates the current models anew on the corpus of the candidate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from datasets.store import Artifact
from tasks.retrain_config import PromoteConfig

PSNR, USAGE, NLL, UNIGRAM, RFID = "PSNR", "codebook usage", "prior NLL", "unigram NLL", "rFID"


@dataclass(frozen=True)
class Gate:
    """One question and its answer."""

    name: str
    candidate: float | None
    """What the candidate has; None: it was not measured."""
    bound: float
    """What it needs."""
    at_least: bool
    """The bound is the lowest that passes, not the highest."""

    @property
    def passed(self) -> bool:
        """What was not measured does not pass."""
        if self.candidate is None:
            return False
        return self.candidate >= self.bound if self.at_least else self.candidate <= self.bound

    def __str__(self) -> str:
        had = "not measured" if self.candidate is None else f"{self.candidate:.4g}"
        verdict = "ok" if self.passed else "NOT PASSED"
        return f"{self.name} {had}, {'at least' if self.at_least else 'at most'} {self.bound:.4g}: {verdict}"


def gates(
    candidate: Mapping[str, float], baseline: Mapping[str, float] | None, config: PromoteConfig, *, same_tokens: bool
) -> list[Gate]:
    """All gates of a candidate.

    Args:
        candidate: its metrics by name.
        baseline: those of the current one over the same images; None: there is no current one.
        config: the margins.
        same_tokens: both priors read tokens of one tokenizer. Otherwise nats a token cannot be compared, and the gain
            over per-position frequencies stands in for them.
    """
    found = [Gate("codebook usage", candidate.get(USAGE), config.min_usage, at_least=True)]
    if baseline is None:
        return found
    if PSNR in baseline:
        lowest = baseline[PSNR] - config.max_psnr_loss_db
        found.append(Gate("reconstruction PSNR, dB", candidate.get(PSNR), lowest, at_least=True))
    if RFID in baseline:
        highest = baseline[RFID] * (1 + config.max_rfid_rise)
        found.append(Gate("reconstruction FID", candidate.get(RFID), highest, at_least=False))
    if NLL in baseline and same_tokens:
        highest = baseline[NLL] + config.max_nll_rise
        found.append(Gate("validation NLL, nats/token", candidate.get(NLL), highest, at_least=False))
    elif (gain := _gain(baseline)) is not None:
        lowest = gain - config.max_nll_rise
        found.append(Gate("gain over unigram, nats/token", _gain(candidate), lowest, at_least=True))
    return found


def metrics_of(evaluation: Artifact) -> dict[str, float]:
    """An evaluation's metrics by name."""
    rows = json.loads(evaluation.read("metrics.json"))
    return {row["name"]: float(row["value"]) for row in rows if row["value"] is not None}


def _gain(metrics: Mapping[str, float]) -> float | None:
    return metrics[UNIGRAM] - metrics[NLL] if NLL in metrics and UNIGRAM in metrics else None
