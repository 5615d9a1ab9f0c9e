"""Tiles: exactly the untiled result where the network is local, exactly the tile's own where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from einops import rearrange
from torch import nn

from tests.vqgan_core.tokenizer.test_hierarchical import SMALL
from vqgan_core.config import TokenizerConfig
from vqgan_core.tokenizer import Tiling, Tokenizer, decode_tiled, encode_tiled
from vqgan_core.tokenizer.blocks import AttentionBlock

VARIANTS: dict[str, dict[str, Any]] = {
    "one level": {"top": None},
    "two levels": {"top.factor": 2},
    "residual": {"top": None, "quantizer.kind": "residual", "quantizer.depth": 3},
}


def make(variant: str, *, local: bool) -> Tokenizer:
    """A tokenizer; local: without what looks at the whole image."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig.load(overrides={**SMALL, **VARIANTS[variant]})).eval()
    if local:
        for module in list(tokenizer.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.GroupNorm | AttentionBlock):
                    setattr(module, name, nn.Identity())
    for name, quantizer in reversed(tokenizer.quantizers.items()):  # entries where latents are, so that all are used
        with torch.no_grad():
            rows = rearrange(tokenizer(images(64, 64)).levels[name].latents, "b d h w -> (b h w) d")
            quantizer.get_parameter("codebook").copy_(rows[torch.randperm(len(rows))[: quantizer.codebook_size]])
    return tokenizer


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(128, 64), (108, 200)])
def test_a_local_network_does_not_notice(variant: str, size: tuple[int, int]) -> None:
    tokenizer, picture, tiling = make(variant, local=True), images(*size), Tiling(96, 84)
    with torch.no_grad():
        grids = tokenizer.encode_levels(picture)
        tiled = encode_tiled(tokenizer, picture, tiling)
        assert {name: grid.tolist() for name, grid in tiled.items()} == {n: grid.tolist() for n, grid in grids.items()}
        assert all(len(grid.unique()) > 2 for grid in grids.values())
        whole = tokenizer.decode(*grids.values())
        torch.testing.assert_close(decode_tiled(tokenizer, grids, tiling), whole, rtol=0, atol=1e-5)
        narrow = decode_tiled(tokenizer, grids, Tiling(48, 4))
    assert (narrow - whole).abs().max() > 1e-3, "an overlap that is too small shows"


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_that_fits_is_untiled_to_the_bit(variant: str) -> None:
    tokenizer, picture = make(variant, local=False), images(32, 48)
    with torch.no_grad():
        grids = tokenizer.encode_levels(picture)
        tiled = encode_tiled(tokenizer, picture, Tiling(64, 16))
        assert {name: grid.tolist() for name, grid in tiled.items()} == {n: grid.tolist() for n, grid in grids.items()}
        assert torch.equal(decode_tiled(tokenizer, grids, Tiling(64, 16)), tokenizer.decode(*grids.values()))


def test_an_interior_is_the_tiles_own_and_not_the_images() -> None:
    """What norms and attention over a tile change, as the module says."""
    tokenizer, picture, tiling = make("one level", local=False), images(32, 96), Tiling(64, 32)
    with torch.no_grad():
        tiled = encode_tiled(tokenizer, picture, tiling)["indices"]
        left = tokenizer.encode(picture[..., :64])
        assert torch.equal(tiled[..., :24], left[..., :24])  # up to the middle of the overlap of [0, 64) and [32, 96)
        decoded = decode_tiled(tokenizer, {"indices": tiled}, tiling)
        of_left = tokenizer.decode(tiled[..., :32])
        torch.testing.assert_close(decoded[..., :32], of_left[..., :32], rtol=0, atol=1e-6)
        assert (decoded - tokenizer.decode(tiled)).abs().max() > 1e-3


def test_blending_has_no_seam() -> None:
    """Weights of neighbours add up to one and rise steadily."""
    tokenizer = make("one level", local=False)
    indices = torch.randint(16, (1, 16, 64), generator=torch.Generator().manual_seed(0))
    tiling = Tiling(64, 32)
    with torch.no_grad():
        out = decode_tiled(tokenizer, {"indices": indices}, tiling)
        one, other = (tokenizer.decode(indices[..., start : start + 32]) for start in (0, 16))
    share = ((out[..., 32:64] - other[..., :32]) / (one[..., 32:64] - other[..., :32])).median(dim=2).values[0, 0]
    torch.testing.assert_close(share, ((24 - torch.arange(32.0) - 0.5) / 16).clamp(0, 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (Tiling(66, 16), "tile_px 66: with this tokenizer it is a multiple of 4"),
        (Tiling(64, 18), "overlap_px 18"),
        (Tiling(64, 64), "overlap_px 64 is to be smaller than tile_px 64"),
    ],
)
def test_tiles_that_do_not_fit(tiling: Tiling, message: str) -> None:
    tokenizer = make("two levels", local=False)
    with pytest.raises(ValueError, match=message):
        encode_tiled(tokenizer, images(128, 128), tiling)
    grids = tokenizer.encode_levels(images(16, 16))
    with pytest.raises(ValueError, match=r"grids \['indices'\]: this tokenizer has"):
        decode_tiled(tokenizer, {"indices": grids["indices"]}, Tiling(64, 16))
    with pytest.raises(ValueError, match=r"indices_top of \(3, 4\): a grid of \(4, 4\) would fit"):
        decode_tiled(tokenizer, {**grids, "indices_top": grids["indices_top"][:, :3]}, Tiling(64, 16))
    with pytest.raises(ValueError, match="must be multiples of f = 4"):
        encode_tiled(tokenizer, images(30, 32), Tiling(64, 16))
