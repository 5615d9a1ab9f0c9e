"""The cost of a tokenizer equals what a pencil, and building and running one, show."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vqgan_core.config import AutoencoderConfig, TokenizerConfig
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.tokenizer.cost import tokenizer_cost


def small(**autoencoder: object) -> TokenizerConfig:
    sizes = {"image_channels": 1, "resolution_px": 8, "base_channels": 32, "channel_multipliers": (1, 2)}
    sizes |= {"num_res_blocks": 1, "attention_resolutions": (), "latent_channels": 8}
    return TokenizerConfig(codebook_size=16, codebook_dim=4, autoencoder=AutoencoderConfig(**(sizes | autoencoder)))


def test_one_level_by_hand() -> None:
    cost = tokenizer_cost(small(channel_multipliers=(1,), resolution_px=4))
    places = 4 * 4
    block = 2 * 9 * 32 * 32
    attention = 4 * 32 * 32 + 2 * 16 * 32  # query, key, value, projection; and 16 keys for scores and for the mix
    # conv_in, one block of the level, middle (block, attention, block), conv_out, quant_conv
    encoder = 9 * 1 * 32 + block + (2 * block + attention) + 9 * 32 * 8 + 8 * 4
    assert cost.encoder_flops == 2 * places * encoder
    # post_quant_conv, conv_in, middle, two blocks of the level, conv_out
    decoder = 4 * 8 + 9 * 8 * 32 + (2 * block + attention) + 2 * block + 9 * 32 * 1
    assert cost.decoder_flops == 2 * places * decoder
    assert cost.search_flops == 2 * places * 16 * 4
    assert cost.encode_flops == cost.encoder_flops + cost.search_flops
    assert cost.reconstruct_flops == cost.encode_flops + cost.decoder_flops


DVAE = {
    "autoencoder": {"kind": "dvae", "image_channels": 1, "resolution_px": 8, "base_channels": 8, "num_levels": 2},
    "quantizer.kind": "gumbel",
    "codebook_size": 16,
    "codebook_dim": 4,
}


@pytest.mark.parametrize(
    "config",
    [
        small(),
        small(attention_resolutions=(8, 4), image_channels=3, num_res_blocks=2),
        TokenizerConfig.load(overrides=DVAE),
    ],
    ids=["plain", "with attention", "dvae"],
)
def test_it_is_what_torch_counts_in_a_real_pass(config: TokenizerConfig) -> None:
    tokenizer, cost = Tokenizer(config).eval(), tokenizer_cost(config)
    assert cost.num_parameters == sum(parameter.numel() for parameter in tokenizer.parameters())
    images = torch.rand(3, config.autoencoder.image_channels, 8, 8) * 2 - 1
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tokenizer(images)
    assert counter.get_total_flops() == 3 * cost.reconstruct_flops
    with FlopCounterMode(display=False) as counter:
        tokenizer.encode(images)
    assert counter.get_total_flops() == 3 * cost.encode_flops


def test_another_size_than_that_of_training() -> None:
    config = small(attention_resolutions=())
    twice, once = tokenizer_cost(config, 16), tokenizer_cost(config)
    assert twice.num_parameters == once.num_parameters
    assert twice.search_flops == 4 * once.search_flops
    assert twice.encoder_flops > 4 * once.encoder_flops  # attention in the middle grows with the square of the places
    with pytest.raises(ValueError, match=r"size_px 15 is no multiple of the factor f = 2"):
        tokenizer_cost(config, 15)


def test_the_published_tokenizer_is_counted_without_memory() -> None:
    """The defaults are the paper's f16 model with K = 1024: 72 million parameters, 0.4 TFLOP an image."""
    cost = tokenizer_cost(TokenizerConfig())
    assert 72.0e6 < cost.num_parameters < 72.3e6
    assert 100e9 < cost.encoder_flops < cost.decoder_flops < 300e9
