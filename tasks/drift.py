"""Drift: whether the images of a grown corpus still look to a tokenizer like those that it was trained on.

Axes: K entries.

Compared are how often each code occurs in the shards that the tokenizer's own training corpus has, and in the others.
Where a corpus shares no shard with that one, its token dataset takes the shards' place, if it was published with the
same recipe. The figure is the Jensen–Shannon divergence in bits: 0 of equal frequencies, 1 of disjoint ones.

Two samples of one distribution do not have exactly 0: n and m independent tokens with K' codes in use have about
(K' - 1)/(8 ln 2) · (1/n + 1/m) bits (the χ² approximation). What is more than that is judged. Tokens of one image are
not independent, so a few images have more all the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DriftTooLarge
from datasets.store import Artifact, InputRef, Store, fingerprint
from tasks.stage import Request
from vqgan_core.config import EncodeExecution
from vqgan_core.quantizers import divergence_bits

__all__ = ["Drift", "judge", "measure", "trained_on"]

Histogram = NDArray[np.int64]


@dataclass(frozen=True)
class Drift:
    """How far the codes of new shards are from those of the tokenizer's own training corpus."""

    bits: float
    """Jensen–Shannon divergence."""
    expected_bits: float
    """What chance alone would give."""
    new_tokens: int
    reference_tokens: int

    @property
    def excess_bits(self) -> float:
        """What chance does not explain."""
        return max(0.0, self.bits - self.expected_bits)

    def to_json(self) -> dict[str, Any]:
        """For a manifest's summary."""
        return asdict(self)


def trained_on(tokenizer: Artifact, store: Store) -> Set[str]:
    """Shards of the corpus that a tokenizer was trained on; none if that is not known here."""
    ref = _training_corpus(tokenizer)
    corpus = None if ref is None else store.lookup("corpus", ref.fingerprint)
    return set() if corpus is None else {entry.path for entry in corpus.manifest.files if entry.path.endswith(".tar")}


def measure(known: Histogram, new: Histogram, request: Request, tokenizer: Artifact, store: Store) -> Drift | None:
    """Compare new shards with those that the tokenizer was trained on; None where there is nothing to compare.

    Args:
        known: codes of the shards of `trained_on`.
        new: codes of all others.
        request: the encode request, whose recipe a token dataset to compare with has to share.
        tokenizer: whose training corpus is the reference.
        store: where its token dataset may be.
    """
    reference = known if known.any() else _published(request, tokenizer, store)
    return _drift(reference, new) if reference is not None and new.any() else None


def judge(drift: Drift | None, execution: EncodeExecution) -> str | None:
    """What to say about a drift, if anything.

    Raises:
        DriftTooLarge: it is above the limit that the config sets.
    """
    if drift is None:
        return None
    told = (
        f"the codes of the new images differ by {drift.bits:.3f} bits (Jensen–Shannon) from those of the tokenizer's "
        f"training corpus, by chance it would be {drift.expected_bits:.3f}"
    )
    if execution.drift_limit_bits is not None and drift.excess_bits > execution.drift_limit_bits:
        raise DriftTooLarge(
            f"{told}; above execution.drift_limit_bits {execution.drift_limit_bits:g}: train a tokenizer on the grown "
            "corpus, or raise the limit"
        )
    return f"{told}: consider a new tokenizer" if drift.excess_bits > execution.drift_warning_bits else None


def _published(request: Request, tokenizer: Artifact, store: Store) -> Histogram | None:
    """The codes of the training corpus, from its own token dataset."""
    ref = _training_corpus(tokenizer)
    if ref is None:
        return None
    inputs = [ref.digest, tokenizer.manifest.digest]
    tokens = store.lookup("tokens", fingerprint(request.stage.name, request.stage.version, request.recipe, inputs))
    if tokens is None:
        return None
    found: Histogram = np.sum(list(json.loads(tokens.read("codes.json")).values()), axis=0)
    return found


def _training_corpus(tokenizer: Artifact) -> InputRef | None:
    return next((ref for ref in tokenizer.manifest.inputs if ref.kind == "corpus"), None)


def _drift(reference: Histogram, new: Histogram) -> Drift:
    n, m = int(reference.sum()), int(new.sum())
    in_use = int(((reference > 0) | (new > 0)).sum())
    expected = (in_use - 1) / (8 * math.log(2)) * (1 / n + 1 / m)
    return Drift(divergence_bits(reference, new), min(1.0, expected), m, n)
