"""Which columns of a token dataset a prior reads: one that it models, and others that it is told first."""

from __future__ import annotations

from typing import TypedDict

from datasets.store import Artifact
from datasets.token_file import TokenColumn
from datasets.token_stream import StreamedTokens
from datasets.tokens import TokenDataset
from vqgan_core.config import PriorConfig, TokenSpec
from vqgan_core.config.tokens import ColumnSpec


class Reads(TypedDict):
    """Arguments of `TokenDataset.batches` and `sequential`."""

    target: str
    columns: tuple[str, ...]


def reads(config: PriorConfig) -> Reads:
    """The columns of a prior's batches."""
    return Reads(target=config.target, columns=config.condition_columns)


def spec_of(tokens: TokenDataset | StreamedTokens, config: PriorConfig) -> TokenSpec:
    """What a prior has to know of the tokens that it models, and of those that it is told.

    Raises:
        TokenError: the token dataset lacks a column.
    """
    meta = tokens.meta
    target = meta.column(config.target)
    return TokenSpec(
        codebook_size=target.codebook_size,
        height=target.height,
        width=target.width,
        num_classes=len(meta.class_names),
        class_names=meta.class_names,
        tokenizer=target.tokenizer_digest,
        columns=tuple(_column_spec(meta.column(name)) for name in config.condition_columns),
    )


def spec_of_artifact(artifact: Artifact, config: PriorConfig) -> TokenSpec:
    """What a prior has to know of the tokens of an artifact.

    Raises:
        TokenError: the token dataset lacks a column.
    """
    return spec_of(TokenDataset.open(artifact), config)


def check_compatible(tokens: TokenDataset, config: PriorConfig, spec: TokenSpec) -> None:
    """Refuse tokens that do not mean what a prior takes them for.

    Raises:
        TokenError: a column is missing.
        TokenMismatch: the tokens of one are of another tokenizer or another codebook size.
    """
    tokens.check_compatible(spec.tokenizer, spec.codebook_size, config.target)
    for column in spec.columns:
        tokens.check_compatible(column.tokenizer, column.codebook_size, column.name)


def _column_spec(column: TokenColumn) -> ColumnSpec:
    return ColumnSpec(
        name=column.name,
        codebook_size=column.codebook_size,
        height=column.height,
        width=column.width,
        tokenizer=column.tokenizer_digest,
    )
