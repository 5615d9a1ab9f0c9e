"""From artifacts to a decision: may this evaluation's models take the place of those that a name points to?"""

from __future__ import annotations

from datasets.store import Artifact, InputRef, Store
from datasets.store.pointers import Pointed, current, promote
from tasks.gates import Gate, gates, metrics_of
from tasks.retrain_config import PromoteConfig


def input_named(evaluation: Artifact, kind: str) -> InputRef:
    """What an evaluation looked at, by kind: it stands for the whole set of models."""
    return next(ref for ref in evaluation.manifest.inputs if ref.kind == kind)


def judge(candidate: Artifact, baseline: Artifact | None, config: PromoteConfig) -> list[Gate]:
    """The gates of a candidate's evaluation against the current models' one, best made over the same corpus."""
    if baseline is None:
        return gates(metrics_of(candidate), None, config, same_tokens=False)
    same = input_named(candidate, "tokenizer").digest == input_named(baseline, "tokenizer").digest
    return gates(metrics_of(candidate), metrics_of(baseline), config, same_tokens=same)


def promote_judged(
    store: Store, name: str, candidate: Artifact, judged: list[Gate], *, instead_of: int | None = None
) -> Pointed | None:
    """Switch the pointer if every gate was passed; None if not.

    Raises:
        PointerMoved: somebody has switched it since the decision was prepared.
    """
    if not all(gate.passed for gate in judged):
        return None
    return promote(
        store,
        name,
        candidate.ref,
        why="; ".join(map(str, judged)),
        figures=metrics_of(candidate),
        instead_of=instead_of,
    )


def current_evaluation(store: Store, name: str) -> tuple[int, Artifact | None]:
    """The number of a name's newest entry, and its evaluation; 0 and None where nothing was promoted yet."""
    pointed = current(store, name)
    return (0, None) if pointed is None else (pointed.number, store.get(pointed.artifact))
