"""Vary the downsampling factor f of the tokenizer, with equal computation for every prior (arXiv 2012.09841, §4.4).

One corpus; for each factor a tokenizer, tokens, a prior, samples and an evaluation, each cached.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.form import location_of
from flows.run import StageRunner
from tasks import encode, evaluate, sample, shard, train_prior, train_tokenizer
from tasks.columns import spec_of_artifact
from tasks.experiment import Run, compare_factors
from tasks.experiment_config import FactorsExperiment
from tasks.subjects import Subjects


@flow(name="experiment-factors", flow_run_name="factors · {preset}", persist_result=True, result_serializer="json")
def experiment_factors(
    preset: str = "digits",
    store: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Vary the tokenizer's downsampling factor with equal computation for every prior.

    Args:
        preset: name of a preset in flows/configs/experiments/factors, or path of a YAML file.
        store: URL of the artifact store; empty: the preset's.
        overrides: any field by its dotted key, for example {"factors": [2, 4, 8]}.

    Returns:
        The reference of the published experiment artifact.
    """
    config = FactorsExperiment.named(preset, {**location_of(store), **(overrides or {})})
    run, runs = StageRunner(config), {}
    sample.refuse_later_inputs(config.sample)
    corpus = run(shard.request(config.shard, reporter=run.reporter))
    for factor in config.factors:
        tokenizer = run(train_tokenizer.request(config.tokenizer_of(factor), corpus))
        tokens = run(encode.request(config.encode, corpus, tokenizer))
        prior = run(train_prior.request(config.prior_of(spec_of_artifact(tokens, config.prior)), tokens))
        samples = run(sample.request(config.sample, prior, tokenizer, tokens=tokens))
        subjects = Subjects(corpus=corpus, tokenizer=tokenizer, tokens=tokens, prior=prior, samples=samples)
        evaluation = run(evaluate.request(config.evaluate, subjects, f"{config.name} f{factor}"))
        runs[factor] = Run(tokenizer, tokens, prior, samples, evaluation)
    return run(compare_factors(runs, config.name)).ref.model_dump(mode="json")
