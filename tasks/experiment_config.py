"""Configs of the experiments: a pipeline's, and what is varied in it. Presets are in flows/configs/experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

from pydantic import Field, JsonValue, field_validator

from tasks.config import PRESETS, PipelineConfig, find_preset
from vqgan_core.config import ConfigError, TokenSpec, TrainPriorConfig, TrainTokenizerConfig, merge
from vqgan_core.config.base import Config
from vqgan_core.prior.cost import prior_cost

C = TypeVar("C", bound=Config)


class _Experiment(PipelineConfig):
    @classmethod
    def named(cls, name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Self:
        """Load an experiment's preset by name, or a YAML file by path, with dotted overrides.

        Raises:
            ConfigError: there is no such preset or file, or a value does not fit.
        """
        return cls.load(find_preset(name, PRESETS / "experiments" / cls.kind()), overrides)

    @classmethod
    def kind(cls) -> str:
        """What is varied: the folder of the presets."""
        return cls.__name__.removesuffix("Experiment").lower()


class PriorsExperiment(_Experiment):
    """Several priors on one token dataset."""

    priors: dict[str, dict[str, JsonValue]] = Field(min_length=1)
    """Name in the charts → what differs from the section prior, by dotted key."""

    def each(self) -> dict[str, TrainPriorConfig]:
        """The priors by name.

        Raises:
            ConfigError: a value does not fit.
        """
        return {name: _changed(self.prior, changes, f"priors.{name}") for name, changes in self.priors.items()}


class FactorsExperiment(_Experiment):
    """One pipeline with tokenizers of several downsampling factors, whose priors may compute equally much."""

    factors: tuple[int, ...] = Field((1, 2, 4, 8, 16), min_length=1)
    """f of each tokenizer: powers of two. Its levels are the first of the section tokenizer's, or repeat the last."""
    prior_pflop: float = Field(gt=0)
    """Operations that each prior's training may take, forward and backward, in 10^15: prior.training.num_steps follows
    from it."""

    @field_validator("factors")
    @classmethod
    def _are_powers_of_two(cls, factors: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(factors)) < len(factors) or any(f < 1 or f & (f - 1) for f in factors):
            raise ValueError("powers of two (1, 2, 4, …), each once")
        return factors

    def tokenizer_of(self, factor: int) -> TrainTokenizerConfig:
        """The tokenizer of a factor.

        Raises:
            ConfigError: a value does not fit.
        """
        levels, wanted = self.tokenizer.autoencoder.channel_multipliers, int(math.log2(factor)) + 1
        multipliers = [*levels, *[levels[-1]] * wanted][:wanted]
        changes: dict[str, JsonValue] = {"autoencoder.channel_multipliers": list(multipliers)}
        return _changed(self.tokenizer, changes, f"the tokenizer of factor {factor}")

    def prior_of(self, spec: TokenSpec) -> TrainPriorConfig:
        """The prior of tokens on a grid, trained for as many steps as its operations allow.

        Raises:
            ConfigError: not even one step is allowed.
        """
        cost = prior_cost(self.prior.model(), spec)
        per_step = cost.training_flops_per_image * self.prior.training.batch_size
        steps = math.floor(self.prior_pflop * 1e15 / per_step)
        if steps < 1:
            raise ConfigError(
                f"prior_pflop {self.prior_pflop:g} is below one step on {spec.num_tokens} tokens "
                f"({per_step / 1e15:.3g}): allow more, or leave small factors out"
            )
        return _changed(self.prior, {"training.num_steps": steps}, f"the prior of {spec.num_tokens} tokens")


def _changed(config: C, changes: Mapping[str, JsonValue], origin: str) -> C:
    values: dict[str, Any] = config.model_dump(mode="json")
    for key, value in changes.items():
        values = merge(values, key, value)
    return type(config).validated(values, origin=origin)
