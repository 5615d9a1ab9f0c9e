"""Train a tokenizer on a corpus: the `train_tokenizer` stage alone."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks.pipeline import Pipeline


@flow(name="train-tokenizer", flow_run_name=run_name, persist_result=True, result_serializer="json")
def train_tokenizer(
    preset: str = "digits",
    store: str | None = None,
    corpus: str | None = None,
    condition_tokenizer: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a tokenizer on a corpus.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        corpus: fingerprint of the corpus artifact to read; empty: the one that this preset's own stage made.
        condition_tokenizer: name in condition_tokenizers of the one to train; empty: the images' own.
        overrides: any field by its dotted key, for example {"sample.temperature": 0.9}.

    Returns:
        The reference of the published tokenizer artifact.
    """
    config = config_of(preset, {"store": store}, overrides)
    pipeline = Pipeline(config, {"corpus": corpus})
    request = (
        pipeline.condition_request(condition_tokenizer) if condition_tokenizer else pipeline.request("train_tokenizer")
    )
    return StageRunner(config).alone(request).ref.model_dump(mode="json")
