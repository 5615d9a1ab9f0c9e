"""Turn a source of images into a corpus of verified shards: the `shard` stage alone."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks.pipeline import Pipeline


@flow(name="shard", flow_run_name=run_name, persist_result=True, result_serializer="json")
def shard(
    preset: str = "digits",
    store: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Turn a source of images into a corpus of verified shards.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        overrides: any field by its dotted key, for example {"sample.temperature": 0.9}.

    Returns:
        The reference of the published corpus artifact.
    """
    config = config_of(preset, {"store": store}, overrides)
    pipeline = Pipeline(config)
    return StageRunner(config).alone(pipeline.request("shard")).ref.model_dump(mode="json")
