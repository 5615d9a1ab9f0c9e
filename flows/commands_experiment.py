"""`tessera experiment priors|factors`: flows that train several things and compare them on one page."""

from __future__ import annotations

import argparse

from flows.commands_run import given_of, overrides_of, run_flow
from tasks.experiment_config import FactorsExperiment, PriorsExperiment


def priors(options: argparse.Namespace) -> int:
    """`tessera experiment priors CONFIG [key=value …]`."""
    config = PriorsExperiment.named(options.config, overrides_of(options))
    config.each()  # a prior that does not fit is told before anything is started
    run_flow(options, "experiment_priors", given_of(options), config)
    return 0


def factors(options: argparse.Namespace) -> int:
    """`tessera experiment factors CONFIG [key=value …]`."""
    config = FactorsExperiment.named(options.config, overrides_of(options))
    for factor in config.factors:
        config.tokenizer_of(factor)
    run_flow(options, "experiment_factors", {}, config)
    return 0
