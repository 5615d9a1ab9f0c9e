"""Try settings of sampling on a prior and name the best: sample sets and their table, all cached."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import config_of
from flows.run import StageRunner
from tasks import sample
from tasks import sweep as stage
from tasks.pipeline import Pipeline
from tasks.subjects import Subjects


@flow(name="sweep", flow_run_name="sweep · {preset}", persist_result=True, result_serializer="json")
def sweep(
    preset: str = "digits",
    store: str | None = None,
    corpus: str | None = None,
    tokenizer: str | None = None,
    tokens: str | None = None,
    prior: str | None = None,
    evaluation: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Try guidance and temperature on a prior: a table of metrics, and the best settings.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the preset's.
        corpus: fingerprint of the corpus artifact to judge by; empty: the one that this preset's own stage made.
        tokenizer: fingerprint of the tokenizer artifact to read; empty: the one that this preset's own stage made.
        tokens: fingerprint of the tokens artifact to read; empty: the one that this preset's own stage made.
        prior: fingerprint of the prior artifact to read; empty: the one that this preset's own stage made.
        evaluation: fingerprint of the evaluation artifact whose classifier rejects images; needed for that alone.
        overrides: any field by its dotted key, for example {"sweep.guidance": [1, 2, 4]}.

    Returns:
        The reference of the published sweep artifact.
    """
    config = config_of(preset, {"store": store}, overrides)
    given = {"corpus": corpus, "tokenizer": tokenizer, "tokens": tokens, "prior": prior, "evaluation": evaluation}
    pipeline, run = Pipeline(config, given), StageRunner(config)
    further = pipeline.further(sample.reads(config.sample), only_given=("evaluation",))
    of = {kind: pipeline.artifact(kind) for kind in ("corpus", "tokenizer", "tokens", "prior")}
    points = stage.settings(config.sweep, config.sample)
    drawn = [run(sample.request(point, of["prior"], of["tokenizer"], **further)) for point in points]
    subjects = Subjects(**of, samples=drawn[0])
    return run(stage.request(config.sweep, config.evaluate, subjects, drawn)).ref.model_dump(mode="json")
