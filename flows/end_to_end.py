"""The whole pipeline: images → corpus → tokenizer → tokens → prior → samples → evaluation.

Each stage is a cached task keyed by its fingerprint: what is already published is not computed again, and what was
killed goes on where it was. Requires nothing but a store that can be written.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.form import config_of
from flows.naming import run_name
from flows.run import StageRunner
from tasks import encode, evaluate, sample, shard, train_prior, train_tokenizer
from tasks.start import prior_start, tokenizer_start
from tasks.subjects import Subjects


@flow(name="end-to-end", flow_run_name=run_name, persist_result=True, result_serializer="json")
def end_to_end(  # noqa: PLR0913, PLR0917 - a flow's parameters are the form that people fill in
    preset: str = "digits",
    store: str | None = None,
    source: str | None = None,
    size_px: Annotated[int | None, Field(ge=1, le=16384)] = None,
    codebook_size: Annotated[int | None, Field(ge=2, le=2**24)] = None,
    tokenizer_steps: Annotated[int | None, Field(ge=1)] = None,
    tokenizer_batch_size: Annotated[int | None, Field(ge=1)] = None,
    tokenizer_learning_rate: Annotated[float | None, Field(gt=0)] = None,
    prior_steps: Annotated[int | None, Field(ge=1)] = None,
    prior_batch_size: Annotated[int | None, Field(ge=1)] = None,
    prior_learning_rate: Annotated[float | None, Field(gt=0)] = None,
    num_per_class: Annotated[int | None, Field(ge=1)] = None,
    guidance: Annotated[float | None, Field(ge=0)] = None,
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Turn a source of images into a trained generator and a report.

    Args:
        preset: name of a preset in flows/configs, or path of a YAML file.
        store: URL of the artifact store; empty: the worker's TESSERA_STORE, or the preset's.
        source: folder or prefix of images; empty: the preset's source.
        size_px: height and width of training images.
        codebook_size: K, number of codebook entries.
        tokenizer_steps: optimiser steps of the tokenizer.
        tokenizer_batch_size: images a step.
        tokenizer_learning_rate: peak rate of the tokenizer.
        prior_steps: optimiser steps of the prior.
        prior_batch_size: records a step.
        prior_learning_rate: peak rate of the prior.
        num_per_class: samples of each class.
        guidance: classifier-free guidance scale; 1 is off.
        seed: start of every random stream.
        overrides: any other field by its dotted key, for example {"tokenizer.loss.pixel": "l2"}.

    Returns:
        The reference of the published evaluation.
    """
    fields = {name: value for name, value in locals().items() if name not in ("preset", "overrides")}
    config = config_of(preset, fields, overrides)
    sample.refuse_later_inputs(config.sample)
    run = StageRunner(config)
    starts = tokenizer_start(config), prior_start(config)  # what is wrong with them is told before anything is made
    corpus = run(shard.request(config.shard, reporter=run.reporter))
    tokenizer = run(train_tokenizer.request(config.tokenizer, corpus, starts[0]))
    tokens = run(encode.request(config.encode, corpus, tokenizer))
    prior = run(train_prior.request(config.prior, tokens, starts[1]))
    samples = run(sample.request(config.sample, prior, tokenizer, tokens=tokens))
    subjects = Subjects(corpus=corpus, tokenizer=tokenizer, tokens=tokens, prior=prior, samples=samples)
    evaluation = run(evaluate.request(config.evaluate, subjects, config.name))
    return evaluation.ref.model_dump(mode="json")
