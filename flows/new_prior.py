"""A new prior on a token dataset that is there: no image is read but for the evaluation.

The corpus and the tokenizer are those that the tokens were made from, so only prior, samples and evaluation are made;
then they are compared with what is current.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from datasets.store import Artifact, InputRef
from datasets.store.lineage import find_artifact
from flows.comparing import compare
from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks.pipeline import Pipeline
from vqgan_core.config import ConfigError


@flow(name="new-prior", flow_run_name=run_name, persist_result=True, result_serializer="json")
def new_prior(  # noqa: PLR0913, PLR0917 - a flow's parameters are the form that people fill in
    tokens: str,
    preset: str = "digits",
    store: str | None = None,
    prior_steps: Annotated[int | None, Field(ge=1)] = None,
    prior_batch_size: Annotated[int | None, Field(ge=1)] = None,
    prior_learning_rate: Annotated[float | None, Field(gt=0)] = None,
    num_per_class: Annotated[int | None, Field(ge=1)] = None,
    guidance: Annotated[float | None, Field(ge=0)] = None,
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None,
    compare_with: str | None = None,
    promote: bool = False,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a prior on a token dataset that is there, draw samples, and compare it with what is current.

    Args:
        tokens: fingerprint of the token dataset (or enough of its beginning), or its URI.
        preset: name of a preset in flows/configs, or path of a YAML file; its prior, sample and evaluate count.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        prior_steps: optimiser steps of the prior.
        prior_batch_size: records a step.
        prior_learning_rate: peak rate of the prior.
        num_per_class: samples of each class.
        guidance: classifier-free guidance scale; 1 is off.
        seed: start of every random stream.
        compare_with: name of the pointer that says what is current; empty: the preset's own name.
        promote: let the name point to the new models if they pass the gates.
        overrides: any other field by its dotted key, for example {"prior.num_layers": 12}.

    Returns:
        The reference of the evaluation, what the gates said, and whether it was promoted.
    """
    fields = {name: value for name, value in locals().items() if name in _PLAIN}
    config = config_of(preset, fields, overrides)
    run = StageRunner(config)
    dataset = find_artifact(run.store, tokens, "tokens")
    given = {kind: _made_from(dataset, kind).fingerprint for kind in ("corpus", "tokenizer")}
    pipeline = Pipeline(config, {**given, "tokens": dataset.manifest.fingerprint})
    evaluation = run.walk(pipeline, "train_prior", "sample", "evaluate")
    verdict = compare(run, pipeline, compare_with or config.pointer, evaluation, promote=promote)
    gates = [str(gate) for gate in verdict.gates]
    return {**evaluation.ref.model_dump(mode="json"), "gates": gates, "promoted": verdict.promoted}


_PLAIN = {
    "store", "prior_steps", "prior_batch_size", "prior_learning_rate", "num_per_class", "guidance", "seed",
}  # fmt: skip


def _made_from(tokens: Artifact, kind: str) -> InputRef:
    for ref in tokens.manifest.inputs:
        if ref.kind == kind:
            return ref
    raise ConfigError(
        f"tokens {tokens.manifest.fingerprint[:12]} name no {kind} that they were made from, so nothing can be decoded "
        "or measured: train on them with the flow train-prior"
    )
