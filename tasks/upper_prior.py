"""A prior of what another prior is told: VQ-VAE-2's top level, a segmentation map, edges.

Axes: B batch, M tokens of the column.

The upper prior models a column of a token dataset (`prior.target`); the lower one is told that column, and nothing else
but a class. Together they draw whole images: first the column's tokens, then the image's own (arXiv 1906.00446, §3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from tasks.sample_plan import Sample
from vqgan_core.config import ConfigError, PriorConfig, SampleConfig, SamplingConfig, TokenSpec
from vqgan_core.config.tokens import ColumnSpec
from vqgan_core.prior import Prior, sample_tokens
from vqgan_core.training.streams import stream_seed

__all__ = ["check_upper", "draw_upper"]

Described = tuple[PriorConfig, TokenSpec]


def check_upper(config: SampleConfig, lower: Described, upper: Described) -> None:
    """Refuse priors that do not draw an image together, and ways to draw that they cannot.

    Raises:
        ConfigError: names what does not fit.
    """
    (told, spec), (drawn, own) = lower, upper
    if told.condition_columns != (drawn.target,):
        raise ConfigError(
            f"the condition prior draws {drawn.target}, and the prior is told {list(told.condition_columns)}: it has "
            "to be told that column alone (and may be told a class)"
        )
    if drawn.condition_columns:
        raise ConfigError(
            f"the condition prior is told {list(drawn.condition_columns)} itself: give one that is told a class at most"
        )
    expected = spec.column(drawn.target)
    there = ColumnSpec(
        name=drawn.target, codebook_size=own.codebook_size, height=own.height, width=own.width, tokenizer=own.tokenizer
    )
    if there != expected:
        raise ConfigError(f"the condition prior draws tokens of {there}, the prior is told those of {expected}")
    if drawn.condition == told.condition == "class" and own.class_names != spec.class_names:
        raise ConfigError("prior and condition prior know different classes: train both on the same token dataset")
    ways = {"size_px": config.size_px, "num_beams": config.num_beams}
    chosen = [name for name, value in ways.items() if value is not None]
    if chosen or config.completion.kind != "none":
        raise ConfigError(
            f"with a condition prior, whole images are drawn: leave {', '.join(chosen) or 'completion'} out"
        )


def draw_upper(
    prior: Prior, batch: Sequence[Sample], config: SamplingConfig, labels: Int[Tensor, " B"]
) -> Int[Tensor, "B M"]:
    """The column's tokens of each image, from a stream of its own seed; guided only if there is a class to guide to."""
    seeds = [stream_seed(item.seed, "condition") for item in batch]
    settings = config if prior.is_conditional else config.model_copy(update={"guidance": 1.0})
    with torch.no_grad():
        return sample_tokens(prior, labels if prior.takes_labels else None, seeds, settings)
