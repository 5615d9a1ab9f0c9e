"""Tokens that a prior is told first, as embeddings.

Axes: B batch, M tokens of a column, D width, K its codebook entries.

Source: arXiv 2012.09841 §3.2, p(s | c): another image's tokens stand before the image's own. Departures: each column
has a table of its own (the original looks condition and image up in one table, where label 3 and token 3 share an
embedding); the last row of each table means "not told", which is what classifier-free guidance is made from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vqgan_core.config.tokens import ColumnSpec
from vqgan_core.prior.decoder import init_weights
from vqgan_core.prior.ranges import check_range

Columns = Mapping[str, Int[Tensor, "B M"]]
"""Condition tokens of a batch by column, row by row."""


class ColumnEmbedding(nn.Module):
    """Embeds one column's tokens.

    Args:
        spec: the column.
        width: D.
        has_positions: whether to say where in its grid a token is; a transformer with learned positions for its whole
            sequence does that by itself.
    """

    def __init__(self, spec: ColumnSpec, width: int, *, has_positions: bool) -> None:
        super().__init__()
        self.spec = spec
        self.tokens = nn.Embedding(spec.codebook_size + 1, width)
        self.positions = nn.Embedding(spec.num_tokens, width) if has_positions else None
        self.apply(init_weights)

    def forward(self, tokens: Int[Tensor, "B M"], drop: Bool[Tensor, " B"] | None = None) -> Float[Tensor, "B M D"]:
        """Embed tokens; those of dropped rows are not told.

        Raises:
            ValueError: another number of tokens, or one out of range.
        """
        spec = self.spec
        if tokens.ndim != 2 or tokens.shape[1] != spec.num_tokens:
            raise ValueError(
                f"column {spec.name} of shape {tuple(tokens.shape)}: this prior is told (batch, {spec.num_tokens}), a "
                f"grid of {spec.height} x {spec.width}"
            )
        check_range(f"token of column {spec.name}", tokens, spec.codebook_size, "its codebook's size")
        if drop is not None:
            tokens = tokens.masked_fill(drop[:, None], spec.codebook_size)
        return self._embed(tokens)

    def untold(self, batch_size: int) -> Float[Tensor, "B M D"]:
        """The column where nothing is told."""
        spec = self.spec
        return self._embed(
            torch.full((batch_size, spec.num_tokens), spec.codebook_size, device=self.tokens.weight.device)
        )

    def _embed(self, tokens: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
        embedded: Tensor = self.tokens(tokens)
        return embedded if self.positions is None else embedded + self.positions.weight
