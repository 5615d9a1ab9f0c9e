"""What a prior has to know of the tokens it models; the contract between a token dataset and its readers."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from vqgan_core.config.base import Config


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

    @property
    def num_tokens(self) -> int:
        """N: tokens of one image."""
        return self.height * self.width

    @model_validator(mode="after")
    def _every_class_has_a_name(self) -> Self:
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class_names for num_classes {self.num_classes}; give one for each"
            )
        return self
