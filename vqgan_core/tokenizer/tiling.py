"""Images of any size in tiles that overlap, for what does not fit into memory in one piece.

Axes: B batch, C channels, H×W image, h×w grid, U units along an axis (a unit is the smallest size a tokenizer takes).

Each tile goes through the tokenizer as an image of its own. Encoding keeps, of two tiles, the indices up to the middle
of their overlap; decoding drops the outer quarters of an overlap and blends linearly in between. So inside a tile's
interior the result is exactly what the tokenizer makes of that tile alone.

When is that the untiled result? Exactly, to the rounding of sums, when the image is one tile; or when the network sees
no further than half of an overlap in encoding and a quarter in decoding. Convolutions can satisfy this: those of
`dvae`, with b blocks a level and L levels, see 3 + 3b(2^L - 1) px beyond an index's cell and 3b(2^L - 1) px around a
pixel. GroupNorm and attention cannot: they look at the whole image, here at the whole tile, so a tokenizer that has
them (any `vqgan`: its middle has attention) gives other norms and other keys to a tile than to the image. Untiled is
not the truth either: on images far larger than those of its training a tokenizer's statistics are as foreign as its
tiles' are usual. Tiles of the training resolution keep what the networks see as it was in training.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan_core.config.tokenizer import BOTTOM, TOP
from vqgan_core.tokenizer.model import Tokenizer

__all__ = ["Tiling", "decode_tiled", "encode_tiled"]


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Both are multiples of what the tokenizer takes (f; with a top level, f times its factor).
    """

    tile_px: int = 512
    """Height and width of a tile."""
    overlap_px: int = 128
    """Least overlap of neighbours."""


@torch.no_grad()
def encode_tiled(
    tokenizer: Tokenizer, images: Float[Tensor, "B C H W"], tiling: Tiling
) -> dict[str, Int[Tensor, "B h w"]]:
    """The indices of images, tile by tile, on the images' device; as `Tokenizer.encode_levels`.

    Args:
        tokenizer: on any device.
        images: in [-1, 1].
        tiling: how they are cut.

    Raises:
        ValueError: an image or a tile whose size is no multiple of what the tokenizer takes.
    """
    tokenizer.check_images(images)
    unit = tokenizer.size_multiple
    _check(tiling, unit)
    cells = tokenizer.config.grids(unit, unit)  # of one unit
    num_units = images.shape[2] // unit, images.shape[3] // unit
    grids = {
        name: torch.empty(len(images), num_units[0] * high, num_units[1] * wide, dtype=torch.int64).to(images.device)
        for name, (high, wide) in cells.items()
    }
    for row, column in itertools.product(*(_spans(length, tiling, unit) for length in num_units)):
        tile = images[:, :, row.window(unit), column.window(unit)]
        for name, found in tokenizer.encode_levels(tile.to(tokenizer.last_layer.device)).items():
            high, wide = cells[name]
            inner = found[:, row.kept_inside(high), column.kept_inside(wide)]
            grids[name][:, row.kept(high), column.kept(wide)] = inner.to(images.device)
    return grids


@torch.no_grad()
def decode_tiled(
    tokenizer: Tokenizer, grids: Mapping[str, Int[Tensor, "B h w"]], tiling: Tiling
) -> Float[Tensor, "B C H W"]:
    """The images of indices, tile by tile, on the indices' device.

    Args:
        tokenizer: in eval mode, on any device.
        grids: of each level, as `encode_tiled` gives them.
        tiling: how the images are cut.

    Raises:
        ValueError: grids that do not fit the tokenizer, or a tile whose size is no multiple of what it takes.
    """
    unit = tokenizer.size_multiple
    _check(tiling, unit)
    cells = tokenizer.config.grids(unit, unit)
    num_units = _units_of(grids, cells)
    home, away = grids[BOTTOM].device, tokenizer.last_layer.device
    size = num_units[0] * unit, num_units[1] * unit
    images = torch.zeros(len(grids[BOTTOM]), tokenizer.config.autoencoder.image_channels, *size, device=home)
    weights = torch.zeros(size, device=home)
    for row, column in itertools.product(*(_spans(length, tiling, unit) for length in num_units)):
        tile = {
            name: grids[name][:, row.window(high), column.window(wide)].to(away) for name, (high, wide) in cells.items()
        }
        weight = row.weights(tiling, unit)[:, None] * column.weights(tiling, unit)
        decoded = tokenizer.decode(tile[BOTTOM], tile.get(TOP)).float()
        images[:, :, row.window(unit), column.window(unit)] += (decoded * weight.to(away)).to(home)
        weights[row.window(unit), column.window(unit)] += weight.to(home)
    return images / weights


@dataclass(frozen=True)
class _Span:
    """A tile along one axis, in units: from where to where, and the part that is kept where indices are joined."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    length: int
    """Of the whole axis."""

    def window(self, cells: int) -> slice:
        """The tile in a grid with so many cells a unit."""
        return slice(self.start * cells, self.stop * cells)

    def kept(self, cells: int) -> slice:
        """The kept part in such a grid."""
        return slice(self.keep_start * cells, self.keep_stop * cells)

    def kept_inside(self, cells: int) -> slice:
        """The kept part in the tile's own grid."""
        return slice((self.keep_start - self.start) * cells, (self.keep_stop - self.start) * cells)

    def weights(self, tiling: Tiling, unit: int) -> Float[Tensor, " P"]:
        """How much each pixel of the tile counts: nothing in the outer quarter of an overlap, then ever more."""
        size, dropped = (self.stop - self.start) * unit, tiling.overlap_px / 4
        place = torch.arange(size) + 0.5
        weights = torch.ones(size)
        if tiling.overlap_px and self.start > 0:
            weights = weights * ((place - dropped) / (2 * dropped)).clamp(0, 1)
        if tiling.overlap_px and self.stop < self.length:
            weights = weights * ((size - place - dropped) / (2 * dropped)).clamp(0, 1)
        return weights


def _spans(length: int, tiling: Tiling, unit: int) -> list[_Span]:
    """Tiles that cover [0, length), spread evenly; a shorter axis is one tile."""
    tile, overlap = tiling.tile_px // unit, tiling.overlap_px // unit
    if length <= tile:
        return [_Span(0, length, 0, length, length)]
    count = 1 + -(-(length - tile) // (tile - overlap))
    starts = [index * (length - tile) // (count - 1) for index in range(count)]
    borders = [0, *((start + tile + after) // 2 for start, after in itertools.pairwise(starts)), length]
    return [
        _Span(start, start + tile, *kept, length)
        for start, kept in zip(starts, itertools.pairwise(borders), strict=True)
    ]


def _check(tiling: Tiling, unit: int) -> None:
    for name, value in (("tile_px", tiling.tile_px), ("overlap_px", tiling.overlap_px)):
        if value % unit or value < 0:
            raise ValueError(f"{name} {value}: with this tokenizer it is a multiple of {unit}")
    if tiling.overlap_px >= tiling.tile_px:
        raise ValueError(f"overlap_px {tiling.overlap_px} is to be smaller than tile_px {tiling.tile_px}")


def _units_of(grids: Mapping[str, Tensor], cells: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Height and width in units of what the grids are of."""
    if set(grids) != set(cells):
        raise ValueError(f"grids {sorted(grids)}: this tokenizer has {sorted(cells)}")
    high, wide = cells[BOTTOM]
    height, width = (length // per_unit for length, per_unit in zip(grids[BOTTOM].shape[1:], (high, wide), strict=True))
    for name, grid in grids.items():
        expected = height * cells[name][0], width * cells[name][1]
        if tuple(grid.shape[1:]) != expected:
            raise ValueError(f"{name} of {tuple(grid.shape[1:])}: a grid of {expected} would fit the others")
    return height, width
