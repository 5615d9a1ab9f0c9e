"""What a prior has to know of the tokens it models; the contract between a token dataset and its readers."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from vqgan_core.config.base import LATER, Config

__all__ = ["TARGET", "ColumnName", "ColumnSpec", "TokenSpec"]

TARGET: Final = "indices"
"""The column of tokens that every token dataset has, and that a prior models unless it is told another."""

_RESERVED = frozenset({
    "key", "label", "split", "view", "height", "width", "source_sha256",
    "crop_top", "crop_left", "crop_height", "crop_width", "mirrored",
    "images", "label_maps", "tokens", "labels", "inputs", "hidden", "orders", "condition_drop",
})  # fmt: skip


def _not_reserved(name: str) -> str:
    if name in _RESERVED:
        raise ValueError(
            f"a column cannot be called {name!r}: that name means something else in token files or batches"
        )
    return name


ColumnName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$"), AfterValidator(_not_reserved)]
"""Name of a column of tokens: a Parquet column, and a key of batches."""


class ColumnSpec(Config):
    """What a prior has to know of tokens that it is told first."""

    name: ColumnName
    """Of the column in the token dataset."""
    codebook_size: int = Field(ge=1, le=2**24)
    """Its tokens are 0 … codebook_size - 1."""
    height: int = Field(ge=1)
    """Rows of its grid."""
    width: int = Field(ge=1)
    """Columns of its grid."""
    tokenizer: str = ""
    """Digest of the tokenizer that made the tokens; empty: none did."""

    @property
    def num_tokens(self) -> int:
        """Tokens of one record."""
        return self.height * self.width


class TokenSpec(Config):
    """Size, grid, classes and origin of a token dataset; stored beside the weights of a prior."""

    codebook_size: int = Field(ge=2, le=2**24)
    """K: tokens are 0 … K - 1."""
    height: int = Field(ge=1)
    """Rows of the index grid."""
    width: int = Field(ge=1)
    """Columns of the index grid."""
    num_classes: int = Field(0, ge=0)
    """Classes of the labels; 0: no labels."""
    class_names: tuple[str, ...] = ()
    """A name for each class, or none at all."""
    tokenizer: str = ""
    """Digest of the tokenizer that made the tokens."""
    columns: Annotated[tuple[ColumnSpec, ...], LATER] = ()
    """Other columns of the same records, which a prior can be told first."""

    @property
    def num_tokens(self) -> int:
        """N: tokens of one image."""
        return self.height * self.width

    def column(self, name: str) -> ColumnSpec:
        """A further column by name.

        Raises:
            ValueError: there is no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        there = ", ".join(column.name for column in self.columns) or "none"
        raise ValueError(f"condition column {name!r}: these tokens have {there} beside those that are modelled")

    @model_validator(mode="after")
    def _every_class_has_a_name(self) -> Self:
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class_names for num_classes {self.num_classes}; give one for each"
            )
        return self
