"""How often each entry occurs in a token dataset: codes.json of the image's own tokens, codes-COLUMN.json of others.

Axes: K entries of a column's codebook.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from datasets.token_file import TokenFile, TokenMeta
from vqgan_core.config import canonical_json
from vqgan_core.config.tokens import TARGET

__all__ = ["CodeCounts"]

Counts = Int64[np.ndarray, " K"]


class CodeCounts:
    """Counts of every column in every split, over all views.

    Args:
        meta: what the columns mean.
        splits: those that there can be.
    """

    def __init__(self, meta: TokenMeta, splits: Sequence[str]) -> None:
        self._counts: dict[str, dict[str, Counts]] = {
            name: {split: np.zeros(column.codebook_size, np.int64) for split in splits}
            for name, column in meta.all_columns.items()
        }

    def add(self, file: TokenFile) -> Counts:
        """Count the entries of a file; returns those of its images' own tokens."""
        found = {}
        for name, of in self._counts.items():
            counts = of[file.split]
            found[name] = np.bincount(file.tokens[name].reshape(-1), minlength=len(counts))
            counts += found[name]
        return found[TARGET]

    @property
    def own(self) -> dict[str, Counts]:
        """Of the images' own tokens, by split."""
        return self._counts[TARGET]

    def files(self) -> dict[str, bytes]:
        """A file for each column, with the splits that have any tokens."""
        return {
            "codes.json" if name == TARGET else f"codes-{name}.json": canonical_json(
                {split: counts.tolist() for split, counts in of.items() if counts.any()}
            )
            for name, of in self._counts.items()
        }
