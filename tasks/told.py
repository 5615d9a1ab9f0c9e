"""The records of a token dataset that samples are told, and pictures of what they are told.

Axes: R records, M tokens of a column, h×w its grid, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from datasets.store import Artifact, Store
from datasets.token_file import TokenColumn
from datasets.tokens import TokenDataset
from tasks.columns import check_compatible
from tasks.models import load_tokenizer, tokenizer_config
from tasks.plane import pictures, voc_palette
from vqgan_core.config import BoxesCondition
from vqgan_core.config.tokenizer import TOP
from vqgan_core.prior import Prior
from vqgan_core.prior.coordinates import coordinate_image
from vqgan_core.prior.layouts import layout_objects

LAYOUT_PX = 128


@dataclass(frozen=True)
class Told:
    """The first records of a split: their keys, labels and condition tokens."""

    split: str
    keys: Sequence[str]
    labels: Int64[Tensor, " R"]
    about: Sequence[TokenColumn]
    tokens: Mapping[str, Int64[Tensor, "R M"]]

    @classmethod
    def open(cls, artifact: Artifact, prior: Prior, split: str, limit: int) -> Self:
        """Read what a prior is told.

        Raises:
            TokenError: no such split or column.
            TokenMismatch: tokens of another tokenizer than the prior was trained on.
        """
        dataset = TokenDataset.open(artifact)
        check_compatible(dataset, prior.config, prior.spec)
        names = prior.config.condition_columns
        return cls(
            split,
            dataset.keys(split)[:limit],
            dataset.labels(split)[:limit],
            [dataset.meta.column(name) for name in names],
            {name: dataset.tokens(split, column=name)[:limit] for name in names},
        )

    def columns(self, records: Sequence[int]) -> dict[str, Int64[Tensor, "B M"]]:
        """Condition tokens of some of the records."""
        return {name: tokens[list(records)] for name, tokens in self.tokens.items()}

    def grids(self, records: Sequence[int]) -> dict[str, Tensor]:
        """The same for large images: maps as grids `B h w`, to be cut to windows; lists, which have no place, `B M`."""
        rows = self.columns(records)
        return {
            column.name: rows[column.name]
            if column.preprocessing.get("kind") == "boxes"
            else rows[column.name].reshape(-1, column.height, column.width)
            for column in self.about
        }

    def summary(self) -> dict[str, Any]:
        """Where the records are from."""
        return {"split": self.split, "columns": list(self.tokens)}

    def pictures(self, store: Store, device: torch.device) -> list[list[UInt8[np.ndarray, "H W C"]]]:
        """For each record, what each column says, as the prior is told it: decoded from its tokens."""
        by_column = [pictures_of(column, self.tokens[column.name], store, device) for column in self.about]
        return [list(row) for row in zip(*by_column, strict=True)]


def pictures_of(
    column: TokenColumn, tokens: Int64[Tensor, "R M"], store: Store, device: torch.device
) -> list[UInt8[np.ndarray, "H W C"]]:
    """What tokens of a column say: decoded by their tokenizer, drawn as boxes, or as grey levels."""
    kind = column.preprocessing.get("kind")
    grids = tokens.reshape(-1, column.height, column.width)
    if kind == "boxes":
        return [_layout(column, row) for row in tokens.tolist()]
    tokenizer = store.lookup("tokenizer", column.tokenizer_fingerprint) if column.tokenizer_fingerprint else None
    # Coordinates, a coarser level that means nothing alone, and what no tokenizer made that this store has.
    if tokenizer is None or column.name == TOP:
        levels = coordinate_image(grids, column.factor, column.codebook_size)
        return list((levels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    with torch.no_grad():
        decoded = load_tokenizer(tokenizer, device).decode(grids.to(device)).cpu()
    return pictures(decoded, tokenizer_config(tokenizer))


def _layout(column: TokenColumn, tokens: list[int]) -> UInt8[np.ndarray, "H W C"]:
    about = dict(column.preprocessing)
    classes = about.pop("classes")
    assert isinstance(classes, list)
    about.pop("annotations_sha256")
    config = BoxesCondition.model_validate({**about, "annotations": "-"})
    sheet = Image.new("RGB", (LAYOUT_PX, LAYOUT_PX), (255, 255, 255))
    pen, palette = ImageDraw.Draw(sheet), voc_palette(21)
    for item in layout_objects(tokens, config, len(classes)):
        box, colour = item.box, tuple(palette[1 + item.category % 20].tolist())
        corners = [value * (LAYOUT_PX - 1) for value in (box.left, box.top, box.right, box.bottom)]
        pen.rectangle(corners, outline=colour, width=2)
        pen.text((corners[0] + 3, corners[1] + 2), str(classes[item.category]), fill=colour)
    return np.asarray(sheet)
