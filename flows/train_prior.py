"""Train a prior on a token dataset; no image is read: the `train_prior` stage alone."""

from __future__ import annotations

from typing import Any

from prefect import flow

from datasets.store import Store
from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks import import_tokens
from tasks.pipeline import Pipeline


@flow(name="train-prior", flow_run_name=run_name, persist_result=True, result_serializer="json")
def train_prior(
    preset: str = "digits",
    store: str | None = None,
    tokens: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a prior on a token dataset; no image is read.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        tokens: fingerprint of the tokens artifact to read, or URL of one in another store or of Parquet files that were
            made elsewhere; empty: the one that this preset's own stage made.
        overrides: any field by its dotted key, for example {"sample.temperature": 0.9}.

    Returns:
        The reference of the published prior artifact.
    """
    config = config_of(preset, {"store": store}, overrides)
    run = StageRunner(config)
    foreign = import_tokens.wanted(config.import_tokens, tokens, Store.open(config.store))
    if foreign is not None:
        tokens = run(import_tokens.request(foreign)).manifest.fingerprint
    pipeline = Pipeline(config, {"tokens": tokens})
    return run.alone(pipeline.request("train_prior")).ref.model_dump(mode="json")
