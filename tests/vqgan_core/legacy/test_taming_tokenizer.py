"""Configs of taming-transformers: what is understood, and what is refused rather than guessed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vqgan_core.legacy.taming_tokenizer import config_from_taming, ddconfig_of, our_key

DDCONFIG: dict[str, Any] = {
    "double_z": False,
    "z_channels": 16,
    "resolution": 32,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 3,
    "attn_resolutions": [16],
    "dropout": 0.25,
}


def params(**changes: Any) -> dict[str, Any]:
    return {"ddconfig": DDCONFIG | changes, "n_embed": 64, "embed_dim": 8}


def test_every_field_has_its_place() -> None:
    config = config_from_taming(params())
    autoencoder = config.autoencoder
    assert (config.codebook_size, config.codebook_dim) == (64, 8)
    assert (autoencoder.image_channels, autoencoder.resolution_px, autoencoder.base_channels) == (1, 32, 32)
    assert autoencoder.channel_multipliers == (1, 2)
    assert (autoencoder.num_res_blocks, autoencoder.attention_resolutions) == (3, (16,))
    assert (autoencoder.latent_channels, autoencoder.num_groups, autoencoder.dropout) == (16, 32, 0.25)
    assert (config.quantizer.commitment_weight, config.quantizer.beta_placement) == (0.25, "legacy")
    assert config_from_taming(params(), beta_placement="corrected").quantizer.beta_placement == "corrected"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"double_z": True}, "double_z"), ({"out_ch": 3}, "out_ch 3"), ({"resamp_with_conv": False}, "resamp_with_conv")],
)
def test_what_is_not_supported_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_taming(params(**changes))


@pytest.mark.parametrize("key", ["colorize", "quantize.used", "quantize.embed.weight", "transformer.head.weight"])
def test_keys_of_other_things(key: str) -> None:
    assert our_key(key) is None


def test_shapes_tell_the_config() -> None:
    """A config read off a state dict builds the same network as the one it was made from."""
    shapes = {
        "encoder.conv_in.weight": (32, 1, 3, 3),
        "encoder.conv_out.weight": (16, 64, 3, 3),
        "decoder.conv_out.weight": (1, 32, 3, 3),
        "quantize.embedding.weight": (64, 8),
        "encoder.down.0.block.0.conv1.weight": (32, 32, 3, 3),
        "encoder.down.0.block.1.conv1.weight": (32, 32, 3, 3),
        "encoder.down.0.block.2.conv1.weight": (32, 32, 3, 3),
        "encoder.down.1.block.0.conv1.weight": (64, 32, 3, 3),
        "encoder.down.1.attn.0.q.weight": (64, 64, 1, 1),
    }
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    expected = params()
    del expected["ddconfig"]["dropout"]
    assert ddconfig_of(state, resolution_px=32) == expected
