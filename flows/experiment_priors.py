"""Train several priors on the same tokens and compare how fast they learn (arXiv 2012.09841, §4.1).

Everything that leads there is cached, and so is each prior.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import location_of
from flows.run import StageRunner
from tasks import train_prior
from tasks.experiment import compare_priors
from tasks.experiment_config import PriorsExperiment
from tasks.pipeline import Pipeline


@flow(name="experiment-priors", flow_run_name="priors · {preset}", persist_result=True, result_serializer="json")
def experiment_priors(
    preset: str = "digits",
    store: str | None = None,
    tokens: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train several priors on the same tokens: validation NLL against steps and against seconds.

    Args:
        preset: name of a preset in flows/configs/experiments/priors, or path of a YAML file.
        store: URL of the artifact store; empty: the preset's.
        tokens: fingerprint of the tokens artifact to read; empty: the one that this preset's own stages make.
        overrides: any field by its dotted key, for example {"priors.pixelsnail.width": 64}.

    Returns:
        The reference of the published experiment artifact.
    """
    config = PriorsExperiment.named(preset, {**location_of(store), **(overrides or {})})
    run = StageRunner(config)
    pipeline = Pipeline(config, {"tokens": tokens})
    if tokens is None:
        for stage in ("shard", "train_tokenizer", "encode"):
            run(pipeline.request(stage))
    data = pipeline.artifact("tokens")
    priors = {name: run(train_prior.request(prior, data)) for name, prior in config.each().items()}
    return run(compare_priors(priors, config.name)).ref.model_dump(mode="json")
