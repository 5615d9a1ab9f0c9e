"""Which images a sample set has: label, seed and, for completions, the record of each and what is known of it.

Axes: N tokens, H×W grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from datasets.tokens import TokenDataset
from vqgan_core.config import MaskCompletion, PriorConfig, SampleConfig, TokenSpec, UpperCompletion
from vqgan_core.config.sampling import KNOWN
from vqgan_core.prior.completion import UNKNOWN
from vqgan_core.training.streams import stream_seed


@dataclass(frozen=True)
class Sample:
    """One image to draw."""

    number: int
    label: int | None
    seed: int
    record: str | None = None
    """Key of the record that is completed."""


@dataclass(frozen=True)
class Records:
    """Records of a token dataset that are completed, by key."""

    by_class: dict[int | None, list[str]]
    known: dict[str, Int[Tensor, " N"]]
    """Tokens row by row, UNKNOWN where one is drawn."""


def num_drawn_per_class(config: SampleConfig) -> int:
    """Images that are drawn so that num_per_class of them are kept."""
    fraction = 1.0 if config.rejection.kind == "none" else config.rejection.fraction
    return math.floor(config.num_per_class / fraction + 1e-9)


def num_images(config: SampleConfig, num_classes: int) -> int:
    """Images that a sample set draws, rejected ones included; 0 classes for a prior that takes no labels."""
    return num_drawn_per_class(config) * max(1, num_classes)


def planned(config: SampleConfig, num_classes: int, records: Records | None = None) -> list[Sample]:
    """All images of a sample set, class by class; of each completed record, in turn, its next draw."""
    labels: Sequence[int | None] = range(num_classes) if num_classes else (None,)
    count = num_drawn_per_class(config)
    pairs = [(label, index) for label in labels for index in range(count)]
    return [
        Sample(
            number,
            label,
            stream_seed(config.seed, f"sample {number}"),
            None if records is None else records.by_class[label][index % len(records.by_class[label])],
        )
        for number, (label, index) in enumerate(pairs)
    ]


def records_of(config: SampleConfig, told: PriorConfig, spec: TokenSpec, tokens: TokenDataset) -> Records | None:
    """The records that are completed: the first num_per_class of each class; None: nothing is completed.

    Raises:
        TokenError: the split has no record.
        ValueError: a class has none, or the mask is not of the prior's grid.
    """
    completion = config.completion
    if completion.kind == "none":
        return None
    is_known = _mask(completion, spec)
    keys, labels = tokens.keys(completion.split), tokens.labels(completion.split).tolist()
    grids = tokens.tokens(completion.split, column=told.target)
    of_class: dict[int | None, list[int]] = {}
    for row, label in enumerate(labels):
        of_class.setdefault(label if told.condition == "class" else None, []).append(row)
    wanted: Sequence[int | None] = range(spec.num_classes) if told.condition == "class" else (None,)
    for label in wanted:
        if label not in of_class:
            name = spec.class_names[label] if label is not None and spec.class_names else label
            raise ValueError(
                f"split {completion.split!r} has no record of class {name}: complete those of another split"
            )
    chosen = {label: of_class[label][: config.num_per_class] for label in wanted}
    known = {
        keys[row]: torch.where(is_known, grids[row], torch.full_like(grids[row], UNKNOWN))
        for rows in chosen.values()
        for row in rows
    }
    return Records({label: [keys[row] for row in rows] for label, rows in chosen.items()}, known)


def _mask(completion: UpperCompletion | MaskCompletion, spec: TokenSpec) -> Tensor:
    """Which cells are known, row by row."""
    if isinstance(completion, UpperCompletion):
        rows = min(max(round(completion.share * spec.height), 1), spec.height - 1)
        return torch.arange(spec.num_tokens) < rows * spec.width
    if (len(completion.mask), len(completion.mask[0])) != (spec.height, spec.width):
        raise ValueError(
            f"a mask of {len(completion.mask)} x {len(completion.mask[0])} for a grid of {spec.height} x {spec.width}: "
            "give a character for each token"
        )
    return torch.tensor([cell == KNOWN for row in completion.mask for cell in row])
