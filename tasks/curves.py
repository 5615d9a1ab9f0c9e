"""The charts of a trained artifact's own history, for every page that shows it."""

from __future__ import annotations

import json
from typing import Any

from datasets.store import Artifact
from tasks.report import Curves, curves_from_history

CURVES_FILE = "curves.jsonl"


def tokenizer_curves(tokenizer: Artifact) -> list[Curves]:
    """Error, PSNR and use of the codebook over a tokenizer's steps."""
    history = _history(tokenizer)
    return [
        curves_from_history(
            history, {"training": "train/pixel", "validation": "validation/l1"}, title="Tokenizer: L1", unit=""
        ),
        curves_from_history(history, {"validation": "validation/psnr"}, title="Tokenizer: PSNR", unit="dB"),
        curves_from_history(
            history, {"validation usage": "validation/usage"}, title="Tokenizer: codebook usage", unit=""
        ),
    ]


def prior_curves(prior: Artifact) -> list[Curves]:
    """Likelihood over a prior's steps."""
    names = {"training": "train/loss", "validation": "validation/nll"}
    return [curves_from_history(_history(prior), names, title="Prior: NLL", unit="nats/token")]


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    """Empty of an imported model: nobody here trained it."""
    if not any(entry.path == CURVES_FILE for entry in artifact.manifest.files):
        return []
    return [json.loads(line) for line in artifact.read(CURVES_FILE).splitlines()]
