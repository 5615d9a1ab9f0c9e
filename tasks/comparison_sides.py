"""The sides of a comparison: artifacts that were given, with all that they were made from and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from datasets.store import Artifact, Manifest, Store
from datasets.store.lineage import ancestors, find_artifact
from vqgan_core.config import (
    Config,
    ConfigError,
    EncodeConfig,
    EvaluateConfig,
    PriorConfig,
    SampleConfig,
    TrainTokenizerConfig,
)

__all__ = ["Side", "differing_recipes", "sides_of"]

_CONFIGS: Mapping[str, type[Config]] = {
    "train_tokenizer": TrainTokenizerConfig, "encode": EncodeConfig, "train_prior": PriorConfig,
    "sample": SampleConfig, "evaluate": EvaluateConfig,
}  # fmt: skip
KINDS = ("tokenizer", "tokens", "prior", "samples", "evaluation")


@dataclass(frozen=True)
class Side:
    """One column."""

    letter: str
    given: Artifact
    artifacts: Mapping[str, Artifact]
    """By kind: what was given, its ancestors, and an evaluation of it."""

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Of the evaluation, by name; empty without one."""
        evaluation = self.artifacts.get("evaluation")
        rows = [] if evaluation is None else json.loads(evaluation.read("metrics.json"))
        return {row["name"]: row for row in rows}

    @property
    def evaluation(self) -> str:
        """Which evaluation the numbers are of, and of which prior; empty without one."""
        if (evaluation := self.artifacts.get("evaluation")) is None:
            return ""
        priors = [ref.fingerprint[:8] for ref in evaluation.manifest.inputs if ref.kind == "prior"]
        return " with ".join(
            [f"evaluation {evaluation.manifest.fingerprint[:8]}", *(f"prior {name}" for name in priors)]
        )

    def history(self, kind: str) -> list[dict[str, Any]]:
        """Curves of a training; empty where none was part of this side, or a model was imported."""
        artifact = self.artifacts.get(kind)
        if artifact is None or all(entry.path != "curves.jsonl" for entry in artifact.manifest.files):
            return []
        return [json.loads(line) for line in artifact.read("curves.jsonl").splitlines()]

    def recipe(self) -> dict[str, Any]:
        """Every recipe field of every stage that led here, by its dotted name, in the order of the pipeline."""
        found: dict[str, Any] = {}
        for kind in ("corpus", *KINDS):
            if kind in self.artifacts:
                manifest = self.artifacts[kind].manifest
                found |= _flat(_complete(manifest), manifest.stage)
        return found


def sides_of(store: Store, fingerprints: Sequence[str]) -> list[Side]:
    """Find what was named, and its family.

    Raises:
        ArtifactMissing: there is none of a name.
        ValueError: fewer than two different ones, or more than letters; or one is nothing that can be compared.
    """
    found = [find_artifact(store, name) for name in fingerprints]
    names = [artifact.manifest.fingerprint for artifact in found]
    if not 2 <= len(set(names)) == len(names) <= len(ascii_uppercase):
        raise ValueError(f"{len(names)} artifacts, {len(set(names))} of them different: give 2 to 26 different ones")
    for artifact in found:
        if artifact.manifest.kind not in KINDS:
            raise ValueError(
                f"{artifact.manifest.fingerprint[:12]} is a {artifact.manifest.kind}: give one of {', '.join(KINDS)}"
            )
    evaluations = store.artifacts("evaluation")
    return [
        Side(letter, artifact, _family(store, artifact, evaluations))
        for letter, artifact in zip(ascii_uppercase, found, strict=False)
    ]


def differing_recipes(sides: Sequence[Side]) -> list[tuple[str, list[Any]]]:
    """Fields that are not the same on all sides, with their values; None where a side has no such field.

    Fields of a kind of artifact that a side does not have are left out: nothing was told there.
    """
    recipes = [side.recipe() for side in sides]
    kinds = set.intersection(*(set(side.artifacts) for side in sides))
    stages = {side.artifacts[kind].manifest.stage for side in sides for kind in kinds}
    names = dict.fromkeys(name for recipe in recipes for name in recipe if name.split(".")[0] in stages)
    rows = [(name, [recipe.get(name) for recipe in recipes]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def _family(store: Store, given: Artifact, evaluations: Sequence[Manifest]) -> dict[str, Artifact]:
    manifests = ancestors(store, given.manifest)
    if given.manifest.kind != "evaluation":
        manifests += [last for last in evaluations if _is_input(given.manifest, last)][-1:]
    found = {}
    for manifest in manifests:
        artifact = store.lookup(manifest.kind, manifest.fingerprint)
        if artifact is not None:
            found[manifest.kind] = artifact
    return found


def _is_input(manifest: Manifest, of: Manifest) -> bool:
    return any(ref.fingerprint == manifest.fingerprint and ref.digest == manifest.digest for ref in of.inputs)


def _complete(manifest: Manifest) -> Mapping[str, Any]:
    """A recipe with the defaults of the fields that it leaves out; as it is where this version cannot read it."""
    config = _CONFIGS.get(manifest.stage)
    if config is None:
        return manifest.recipe
    known = {name: value for name, value in manifest.recipe.items() if name in config.model_fields}
    try:
        return {**manifest.recipe, **config.validated(known, origin=manifest.stage).recipe(complete=True)}
    except ConfigError:
        return manifest.recipe


def _flat(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(item, f"{name}.{key}") for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}
