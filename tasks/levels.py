"""Tokenizers of two levels (VQ-VAE-2) in the stages: their columns of tokens, and which priors make images of both.

The finer level is drawn by a prior that is told the coarser one: that of a record, or what a second prior draws.
"""

from __future__ import annotations

from datasets.token_file import TokenColumn, TokenMeta
from vqgan_core.config import ConfigError, PriorConfig, SampleConfig, TokenizerConfig, TokenSpec
from vqgan_core.config.tokenizer import TOP
from vqgan_core.config.tokens import TARGET

__all__ = ["check_levels", "check_top_prior", "upper_levels"]


def upper_levels(meta: TokenMeta, model: TokenizerConfig) -> tuple[TokenColumn, ...]:
    """The column of a second level, if a tokenizer has one.

    Args:
        meta: of the token files, whose own column is the finer level's.
        model: the tokenizer's config.
    """
    if model.top is None:
        return ()
    own_width = meta.width // model.quantizer.indices_per_latent
    height, width = model.grids(meta.height * meta.factor, own_width * meta.factor)[TOP]
    column = TokenColumn(
        name=TOP,
        tokenizer_fingerprint=meta.tokenizer_fingerprint,
        tokenizer_digest=meta.tokenizer_digest,
        codebook_size=model.top.codebook_size,
        factor=meta.factor * model.top.factor,
        height=height,
        width=width,
        preprocessing=meta.preprocessing,
    )
    return (column,)


def check_levels(tokenizer: TokenizerConfig, prior: PriorConfig) -> None:
    """Refuse a prior whose tokens are not enough for an image.

    Raises:
        ConfigError: of two levels it does not draw the finer, told the coarser.
    """
    if tokenizer.top is not None and (prior.target != TARGET or TOP not in prior.condition_columns):
        raise ConfigError(
            f"a tokenizer of two levels makes images of both: sampling needs prior.target {TARGET} and "
            f"prior.condition_columns with {TOP}, got {prior.target} and {list(prior.condition_columns)}; a prior of "
            f"{TOP} alone is trained by `tessera train-prior`"
        )


def check_top_prior(
    config: SampleConfig, prior: tuple[PriorConfig, TokenSpec], top: tuple[PriorConfig, TokenSpec]
) -> None:
    """Refuse two priors that do not make an image together.

    Args:
        config: of the samples.
        prior: of the finer level, and its tokens.
        top: of the coarser one.

    Raises:
        ConfigError: says which of them does not fit, and what would.
    """
    (told, spec), (drawn, top_spec) = prior, top
    if drawn.target != TOP or drawn.condition_columns:
        raise ConfigError(
            f"--top-prior is of {drawn.target}, told {list(drawn.condition_columns)}: it is to be of {TOP} alone, from "
            f"`tessera train-prior … prior.target={TOP} prior.condition_columns=[]`"
        )
    if told.condition_columns != (TOP,):
        raise ConfigError(
            f"--top-prior draws {TOP}, but the prior is told {list(told.condition_columns) or 'no column'}: it is to "
            f"be told {TOP} alone (prior.condition_columns=[{TOP}])"
        )
    column = spec.column(TOP)
    wanted = (column.codebook_size, column.height, column.width, column.tokenizer)
    if (top_spec.codebook_size, top_spec.height, top_spec.width, top_spec.tokenizer) != wanted:
        raise ConfigError("--top-prior draws tokens of another tokenizer or grid: train it on the same token dataset")
    if top_spec.num_classes != spec.num_classes:
        raise ConfigError(f"--top-prior knows {top_spec.num_classes} classes, the prior {spec.num_classes}")
    if config.num_beams is not None or config.size_px is not None:
        way = "num_beams" if config.num_beams is not None else "size_px"
        raise ConfigError(f"sample.{way} with --top-prior: two priors draw images of the trained size alone")
