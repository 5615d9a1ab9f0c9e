"""What a retraining has to do about new images: a pure decision from counts and the drift that encoding has measured.

The drift is that of `tasks.drift`, in bits: how often the current tokenizer's codes occur in shards that are new to it,
against those of its own training corpus, less what chance alone explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from datasets.store import Artifact
from datasets.tokens import TokenDataset
from tasks.retrain_config import RetrainConfig


class Course(StrEnum):
    """What is done."""

    FIRST = "first"
    """Nothing is current yet: everything is made."""
    UNCHANGED = "unchanged"
    """Nothing new: nothing is made."""
    GROWN = "grown"
    """More of the same: new shards and tokens, and the prior trains on."""
    DRIFTED = "drifted"
    """Something else: the tokenizer trains on, everything is encoded again, a new prior is trained."""


@dataclass(frozen=True)
class Change:
    """How the images differ from those of the current models."""

    num_new: int
    num_gone: int
    drift_bits: float
    """How far the codes of images that the tokenizer was not trained on are from those of its own."""

    def __str__(self) -> str:
        counts = f"{self.num_new:,} new images, {self.num_gone:,} gone"
        return f"{counts}, drift {self.drift_bits:.3f} bits"


def decide(change: Change, config: RetrainConfig) -> Course:
    """The course that the thresholds ask for."""
    if change.num_new + change.num_gone < config.min_new_images:
        return Course.UNCHANGED
    return Course.DRIFTED if change.drift_bits > config.max_drift_bits else Course.GROWN


def change_between(before: Artifact, after: Artifact) -> Change:
    """How a token dataset differs from an earlier one of the same tokenizer."""
    old, new = TokenDataset.open(before), TokenDataset.open(after)
    known = {key for split in old.splits for key in old.keys(split)}
    present = {key for split in new.splits for key in new.keys(split)}
    drift = after.manifest.summary.get("drift")
    excess = 0.0 if drift is None else max(0.0, drift["bits"] - drift["expected_bits"])
    return Change(len(present - known), len(known - present), excess)
