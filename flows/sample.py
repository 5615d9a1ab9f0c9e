"""Draw images from a prior: the `sample` stage alone."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks.pipeline import Pipeline


@flow(name="sample", flow_run_name=run_name, persist_result=True, result_serializer="json")
def sample(
    preset: str = "digits",
    store: str | None = None,
    prior: str | None = None,
    tokenizer: str | None = None,
    tokens: str | None = None,
    evaluation: str | None = None,
    top_prior: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Draw images from a prior.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        prior: fingerprint of the prior artifact to read; empty: the one that this preset's own stage made.
        tokenizer: fingerprint of the tokenizer artifact to read; empty: the one that this preset's own stage made.
        tokens: fingerprint of the tokens artifact whose records are completed, or told to a prior with condition
            columns; empty: the one that this preset's own stage made, or that the prior was trained on.
        evaluation: fingerprint of the evaluation artifact whose classifier rejects images; needed for that alone.
        top_prior: fingerprint of the prior artifact that draws the coarser level of a tokenizer of two; empty: the
            prior is told that of records.
        overrides: any field by its dotted key, for example {"sample.temperature": 0.9}.

    Returns:
        The reference of the published samples artifact.
    """
    config = config_of(preset, {"store": store}, overrides)
    given = {"prior": prior, "tokenizer": tokenizer, "tokens": tokens, "evaluation": evaluation, "top_prior": top_prior}
    pipeline = Pipeline(config, given)
    return StageRunner(config).alone(pipeline.request("sample")).ref.model_dump(mode="json")
