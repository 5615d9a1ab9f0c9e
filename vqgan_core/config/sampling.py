"""What a sample set is beside plain draws: completions of records, and rejection of what a classifier doubts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from vqgan_core.config.base import Config, variant_of

KNOWN, DRAWN = "#", "."


class NoCompletion(Config):
    """Whole images are drawn."""

    kind: Literal["none"] = "none"


class _OfRecords(Config):
    split: Literal["train", "val"] = "val"
    """Whose records are completed: the first num_per_class of each class, in key order; of a prior with condition
    columns, those that it is told."""
    known_first: bool = False
    """Read all known tokens before the first draw; for priors of order random_annealed."""


class UpperCompletion(_OfRecords):
    """The upper part of records is kept, and the rest drawn."""

    kind: Literal["upper"] = "upper"
    share: float = Field(0.5, gt=0, lt=1)
    """Share of the rows of tokens that is kept, rounded."""


class MaskCompletion(_OfRecords):
    """Some tokens of records are kept, and the rest drawn."""

    kind: Literal["mask"] = "mask"
    mask: tuple[str, ...] = Field(min_length=1)
    """A text for each row of the grid: # where a token is kept, . where one is drawn."""

    @field_validator("mask")
    @classmethod
    def _is_a_grid(cls, mask: tuple[str, ...]) -> tuple[str, ...]:
        if len({len(row) for row in mask}) != 1 or not set("".join(mask)) <= {KNOWN, DRAWN}:
            raise ValueError(f"rows of one length of {KNOWN} (kept) and {DRAWN} (drawn)")
        if len(set("".join(mask))) != 2:
            raise ValueError(f"at least one {KNOWN} (kept) and one {DRAWN} (drawn)")
        return mask


def _by_name(value: Any) -> Any:
    """Read `upper` as the kind upper with its defaults."""
    return {"kind": value or "none"} if value is None or isinstance(value, str) else value


CompletionConfig = Annotated[
    NoCompletion | UpperCompletion | MaskCompletion,
    Field(discriminator="kind"),
    BeforeValidator(_by_name),
]


class NoRejection(Config):
    """Everything that is drawn is kept."""

    kind: Literal["none"] = "none"


class _OfFraction(Config):
    fraction: float = Field(gt=0, lt=1)
    """Share of each class that is kept: num_per_class images of num_per_class / fraction."""


class DomainRejection(_OfFraction):
    """By the domain classifier of an evaluation of the same corpus."""

    kind: Literal["domain"] = "domain"


class TorchvisionRejection(_OfFraction):
    """By a torchvision classifier with weights from an explicit place."""

    kind: Literal["torchvision"] = "torchvision"
    model: str = Field("resnet50", pattern=r"^[a-z][a-z0-9_]*$")
    """Name in torchvision.models."""
    weights: str = Field(min_length=1)
    """Path of its state dict."""
    class_indices: tuple[int, ...] | None = None
    """The network's output for each class of the prior; null: they are numbered alike."""
    size_px: int = Field(224, ge=8)
    """Images are resized to this before the network."""


RejectionConfig = Annotated[
    NoRejection | DomainRejection | TorchvisionRejection,
    Field(discriminator="kind"),
    BeforeValidator(variant_of("domain")),
]
