"""Tokenizers of two levels (VQ-VAE-2) in the stages: their columns of tokens, and which priors make images of both."""

from __future__ import annotations

from datasets.token_file import TokenColumn, TokenMeta
from vqgan_core.config import ConfigError, PriorConfig, TokenizerConfig
from vqgan_core.config.tokenizer import TOP
from vqgan_core.config.tokens import TARGET

__all__ = ["check_levels", "upper_levels"]


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
