"""The networks of a dVAE: local, of any size, and only with what they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vqgan_core.config import AutoencoderConfig, ConfigError, DvaeAutoencoderConfig, TokenizerConfig
from vqgan_core.tokenizer import Tiling, Tokenizer, decode_tiled, encode_tiled

SMALL: dict[str, Any] = {
    "autoencoder.kind": "dvae",
    "autoencoder.resolution_px": 32,
    "autoencoder.base_channels": 8,
    "autoencoder.num_levels": 3,
    "autoencoder.num_res_blocks": 1,
    "quantizer.kind": "gumbel",
    "codebook_size": 16,
    "codebook_dim": 4,
    "pixels": "logit_laplace",
}


def make() -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig.load(overrides=SMALL)).eval()
    with torch.no_grad():
        for name, value in tokenizer.named_parameters():
            value.mul_(1 if name.startswith("quantizer") else 3)  # so that residuals, which count little, are seen
    return tokenizer


def test_widths_and_grids() -> None:
    tokenizer = make()
    assert (tokenizer.factor, tokenizer.config.latent_dim) == (4, 32)
    output = tokenizer(torch.zeros(2, 3, 16, 24))
    assert (output.latents.shape, output.quantized.shape) == ((2, 32, 4, 6), (2, 4, 4, 6))
    assert (output.reconstruction.shape, output.indices.shape) == ((2, 3, 16, 24), (2, 4, 6))
    assert not any("norm" in name or "attention" in name for name, _ in tokenizer.named_modules())


def reach_px(config: TokenizerConfig) -> tuple[int, int]:
    """How far an index sees beyond its cell, and a pixel around its own, by the sizes of the convolutions."""
    autoencoder = config.autoencoder
    assert isinstance(autoencoder, DvaeAutoencoderConfig)
    blocks = 3 * autoencoder.num_res_blocks * (2**autoencoder.num_levels - 1)  # three convolutions of 3x3 each
    return 3 + blocks, blocks


def test_tiles_of_it_are_the_image() -> None:
    """With overlaps of twice and four times its reach, as the module of tiles says."""
    tokenizer = make()
    assert reach_px(tokenizer.config) == (24, 21)
    images = torch.rand(1, 3, 160, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        whole = tokenizer.encode(images)
        assert len(whole.unique()) > 2
        assert torch.equal(encode_tiled(tokenizer, images, Tiling(96, 48))["indices"], whole)
        expected = tokenizer.decode(whole)
        decoded = decode_tiled(tokenizer, {"indices": whole}, Tiling(128, 84))
        torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)
        narrow = decode_tiled(tokenizer, {"indices": whole}, Tiling(64, 4))
    assert (narrow - expected).abs().max() > 1e-3


def test_the_overlaps_that_the_readme_gives_for_the_preset() -> None:
    preset = TokenizerConfig.load(overrides={**SMALL, "autoencoder.num_levels": 4, "autoencoder.num_res_blocks": 2})
    encode, decode = reach_px(preset)
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    assert f"`dvae-f8` with overlaps of {-(-2 * encode // 8) * 8} and {4 * decode} px" in readme


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer.kind": "vector"}, "autoencoder dvae with quantizer vector: .* only quantizer gumbel takes"),
        ({"top.codebook_size": 8}, "autoencoder dvae with a top level"),
        ({"autoencoder.base_channels": 6}, "multiple of 4"),
        ({"autoencoder.dropout": 0.1}, "autoencoder.*dropout: there is no such field"),
    ],
)
def test_what_it_has_not_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig.load(overrides={**SMALL, **changes})


def test_a_config_from_before_reads_as_a_vqgan() -> None:
    """Artifacts do not say the kind, and their fingerprints stay as they are."""
    stored = TokenizerConfig().recipe()
    assert "kind" not in stored["autoencoder"]
    assert TokenizerConfig.validated(stored, origin="x").autoencoder == AutoencoderConfig()
    dvae = TokenizerConfig.load(overrides=SMALL)
    assert TokenizerConfig.validated(dvae.recipe(), origin="x") == dvae
