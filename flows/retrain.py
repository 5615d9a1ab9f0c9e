"""The scheduled retraining: as much as the new images ask for, and no more.

The source is sharded first; a source that did not change is served from the store, and the flow ends in seconds. What
is new is encoded with the current tokenizer, which also says how much it differs from what that one knows. Then either
the prior trains on from its last weights, or the tokenizer, too, and everything is encoded anew. What comes out becomes
current only if it passes the gates. Every request is a pure function of the source and of what is current: the same run
again is served from the store, and one that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from datasets.store import Artifact
from flows.comparing import compare
from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks.config import PipelineConfig
from tasks.pipeline import Pipeline
from tasks.promotion import current_evaluation, input_named
from tasks.retraining import Course, change_between, decide

_TRAIN_PRIOR = ("train_prior", "sample", "evaluate")


@flow(name="retrain", flow_run_name=run_name, persist_result=True, result_serializer="json")
def retrain(
    preset: str = "digits",
    store: str | None = None,
    source: str | None = None,
    promote: bool = True,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Look at the source again, and train as much as the new images ask for.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        source: folder or prefix of images; empty: the preset's source.
        promote: let the name retrain.pointer point to the new models if they pass the gates.
        overrides: any other field by its dotted key, for example {"retrain.min_new_images": 1000}.

    Returns:
        The course that was taken, what the gates said, whether it was promoted, and the evaluation's reference.
    """
    config = config_of(preset, {"store": store, "source": source}, overrides)
    run = StageRunner(config)
    pipeline = Pipeline(config)
    corpus = run(pipeline.request("shard"))
    _, current = current_evaluation(run.store, config.pointer)
    if current is not None and input_named(current, "corpus").digest == corpus.manifest.digest:
        get_run_logger().info("nothing has changed since %s", current.ref.uri)
        return {"course": Course.UNCHANGED, "gates": [], "promoted": False, **current.ref.model_dump(mode="json")}
    course, pipeline = _course(run, pipeline, current)
    get_run_logger().info("course: %s", course)
    if course is Course.UNCHANGED and current is not None:
        return {"course": course, "gates": [], "promoted": False, **current.ref.model_dump(mode="json")}
    stages = _TRAIN_PRIOR if course is Course.GROWN else ("train_tokenizer", "encode", *_TRAIN_PRIOR)
    evaluation = run.walk(pipeline, *stages)
    verdict = compare(run, pipeline, config.pointer, evaluation, promote=promote)
    gates = [str(gate) for gate in verdict.gates]
    return {"course": course, "gates": gates, "promoted": verdict.promoted, **evaluation.ref.model_dump(mode="json")}


def _course(run: StageRunner, pipeline: Pipeline, current: Artifact | None) -> tuple[Course, Pipeline]:
    """What to do, and the pipeline that does it."""
    config = pipeline.config
    if current is None:
        return Course.FIRST, pipeline
    corpus = pipeline.artifact("corpus").manifest.fingerprint
    made = {kind: input_named(current, kind).fingerprint for kind in ("tokenizer", "prior")}
    given = {"corpus": corpus, "tokenizer": made["tokenizer"]}
    tokens = run(Pipeline(config, given).request("encode"))
    change = change_between(run.store.get(input_named(current, "tokens")), tokens)
    course = decide(change, config.retrain)
    get_run_logger().info("%s", change)
    if course is Course.DRIFTED:
        steps = max(1, round(config.tokenizer.training.num_steps * config.retrain.tokenizer_steps_fraction))
        told = {"tokenizer.init_from": made["tokenizer"], "tokenizer.training.num_steps": steps}
        return course, Pipeline(_told(config, told), {"corpus": corpus})
    steps = max(1, round(config.prior.training.num_steps * config.retrain.prior_steps_fraction))
    told = {"prior.init_from": made["prior"], "prior.training.num_steps": steps}
    return course, Pipeline(_told(config, told), {**given, "tokens": tokens.manifest.fingerprint})


def _told(config: PipelineConfig, values: Mapping[str, Any]) -> PipelineConfig:
    """The config with other values, validated."""
    return PipelineConfig.load(None, {**config.model_dump(mode="json"), **values})
