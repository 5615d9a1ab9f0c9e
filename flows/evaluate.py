"""Measure everything and write the report: the `evaluate` stage alone."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks.pipeline import Pipeline


@flow(name="evaluate", flow_run_name=run_name, persist_result=True, result_serializer="json")
def evaluate(
    preset: str = "digits",
    store: str | None = None,
    corpus: str | None = None,
    tokenizer: str | None = None,
    tokens: str | None = None,
    prior: str | None = None,
    samples: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure everything and write the report.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        corpus: fingerprint of the corpus artifact to read; empty: the one that this preset's own stage made.
        tokenizer: fingerprint of the tokenizer artifact to read; empty: the one that this preset's own stage made.
        tokens: fingerprint of the tokens artifact to read; empty: the one that this preset's own stage made.
        prior: fingerprint of the prior artifact to read; empty: the one that this preset's own stage made.
        samples: fingerprint of the samples artifact to read; empty: the one that this preset's own stage made.
        overrides: any field by its dotted key, for example {"sample.temperature": 0.9}.

    Returns:
        The reference of the published evaluation artifact.
    """
    config = config_of(preset, {"store": store}, overrides)
    pipeline = Pipeline(
        config, {"corpus": corpus, "tokenizer": tokenizer, "tokens": tokens, "prior": prior, "samples": samples}
    )
    return StageRunner(config).alone(pipeline.request("evaluate")).ref.model_dump(mode="json")
