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
from tasks.told import Told
from vqgan_core.config import MaskCompletion, PriorConfig, SampleConfig, TokenizerConfig, TokenSpec, UpperCompletion
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
    told: int | None = None
    """Which of the records that the prior is told, if any."""


@dataclass(frozen=True)
class Records:
    """Records of a token dataset that are completed, by key."""

    by_class: dict[int | None, list[str]]
    """Of a prior that is told columns, none: each image completes the record that it is told."""
    known: dict[str, Int[Tensor, " N"]]
    """Tokens row by row, UNKNOWN where one is drawn."""

    def key(self, label: int | None, index: int, told: str | None) -> str:
        """The record that an image completes, by its class, its number there, and the record that it is told."""
        return told or self.by_class[label][index % len(self.by_class[label])]


def num_drawn_per_class(config: SampleConfig) -> int:
    """Images that are drawn so that num_per_class of them are kept."""
    fraction = 1.0 if config.rejection.kind == "none" else config.rejection.fraction
    return math.floor(config.num_per_class / fraction + 1e-9)


def num_images(config: SampleConfig, prior: PriorConfig, num_classes: int) -> int:
    """Images that a sample set draws, rejected ones included, if there are as many records to tell as are asked for."""
    if prior.condition_columns:
        return num_drawn_per_class(config) * config.num_conditions
    return num_drawn_per_class(config) * max(1, num_classes if prior.condition == "class" else 0)


def planned(
    config: SampleConfig, num_classes: int, records: Records | None = None, told: Told | None = None
) -> list[Sample]:
    """All images of a sample set, class by class or told record by told record.

    Args:
        config: how many.
        num_classes: 0 for a prior that is told none.
        records: those that are completed; each image of a class takes the next one.
        told: the records that a prior with condition columns is told.
    """
    subjects: list[tuple[int | None, int | None]]
    if told is not None:
        subjects = [(label if num_classes else None, row) for row, label in enumerate(told.labels.tolist())]
    else:
        subjects = [(label, None) for label in (range(num_classes) if num_classes else (None,))]
    each = [(label, row, index) for label, row in subjects for index in range(num_drawn_per_class(config))]
    samples = []
    for number, (label, row, index) in enumerate(each):
        key = None if told is None or row is None else told.keys[row]
        completed = None if records is None else records.key(label, index, key)
        samples.append(Sample(number, label, stream_seed(config.seed, f"sample {number}"), completed, row))
    return samples


def records_of(config: SampleConfig, told: PriorConfig, spec: TokenSpec, tokens: TokenDataset) -> Records | None:
    """The records that are completed; None: nothing is.

    They are the first num_per_class of each class; or, of a prior that is told columns, the records that it is told.

    Raises:
        TokenError: the split has no record.
        ValueError: a class has none, the mask is not of the prior's grid, or the records that are told are others.
    """
    completion = config.completion
    if completion.kind == "none":
        return None
    is_known, keys = _mask(completion, spec), tokens.keys(completion.split)
    grids = tokens.tokens(completion.split, column=told.target)
    by_class: dict[int | None, list[int]] = {}
    if told.condition_columns:
        if completion.split != config.condition_split:
            raise ValueError(
                f"completion.split {completion.split} with condition_split {config.condition_split}: a prior that is "
                "told columns completes the records that it is told; give the same split"
            )
        rows = list(range(min(config.num_conditions, len(keys))))
    else:
        by_class = _first_of_each_class(config, told, spec, tokens.labels(completion.split).tolist())
        rows = [row for of_class in by_class.values() for row in of_class]
    known = {keys[row]: torch.where(is_known, grids[row], torch.full_like(grids[row], UNKNOWN)) for row in rows}
    return Records({label: [keys[row] for row in of_class] for label, of_class in by_class.items()}, known)


def _first_of_each_class(
    config: SampleConfig, told: PriorConfig, spec: TokenSpec, labels: Sequence[int]
) -> dict[int | None, list[int]]:
    of_class: dict[int | None, list[int]] = {}
    for row, number in enumerate(labels):
        of_class.setdefault(number if told.condition == "class" else None, []).append(row)
    wanted: list[int | None] = [*range(spec.num_classes)] if told.condition == "class" else [None]
    for label in wanted:
        if label not in of_class:
            name = spec.class_names[label] if label is not None and spec.class_names else label
            assert config.completion.kind != "none"
            raise ValueError(
                f"split {config.completion.split!r} has no record of class {name}: complete those of another split"
            )
    return {label: of_class[label][: config.num_per_class] for label in wanted}


def large_grid(size_px: tuple[int, int], tokenizer: TokenizerConfig) -> tuple[int, int]:
    """Rows and columns of the tokens of an image of that height and width.

    Raises:
        ValueError: the tokenizer's factor does not divide them.
    """
    if any(side % tokenizer.size_multiple for side in size_px):
        raise ValueError(
            f"size_px {list(size_px)}: sides are multiples of the tokenizer's factor {tokenizer.size_multiple}"
        )
    return tokenizer.grid(*size_px)


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
