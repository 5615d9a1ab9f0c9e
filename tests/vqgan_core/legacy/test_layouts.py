"""Other projects' names of the same network: some by heart, all there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vqgan_core.config import AutoencoderConfig, TokenizerConfig
from vqgan_core.legacy.layouts import DIFFUSERS, LLAMAGEN, TAMING, Layout, export_state, import_state
from vqgan_core.legacy.other_tokenizers import config_from_diffusers, config_from_llamagen
from vqgan_core.legacy.taming_tokenizer import import_taming_tokenizer
from vqgan_core.tokenizer import Tokenizer

LLAMAGEN_ARGS = {"ch": 32, "encoder_ch_mult": [1, 2, 2], "codebook_size": 64, "z_channels": 16}
DIFFUSERS_CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": 32,
    "act_fn": "silu",
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
    "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    "layers_per_block": 2,
    "latent_channels": 16,
    "num_vq_embeddings": 64,
    "vq_embed_dim": 8,
    "norm_num_groups": 32,
    "norm_type": "group",
    "scaling_factor": 0.18215,
}
CONFIGS = {
    "taming": (TAMING, config_from_llamagen(LLAMAGEN_ARGS | {"codebook_l2_norm": False}, resolution_px=32)),
    "llamagen": (LLAMAGEN, config_from_llamagen(LLAMAGEN_ARGS, resolution_px=32)),
    "diffusers": (DIFFUSERS, config_from_diffusers(DIFFUSERS_CONFIG)),
}
SHAPES = {
    "llamagen": {
        "encoder.conv_blocks.1.res.0.nin_shortcut.weight": (64, 32, 1, 1),
        "encoder.conv_blocks.0.downsample.conv.weight": (32, 32, 3, 3),
        "encoder.conv_blocks.2.attn.1.proj_out.weight": (64, 64, 1, 1),
        "encoder.mid.1.q.bias": (64,),
        "decoder.conv_blocks.0.attn.2.norm.weight": (64,),
        "decoder.conv_blocks.0.upsample.conv.weight": (64, 64, 3, 3),
        "decoder.conv_blocks.2.res.0.nin_shortcut.weight": (32, 64, 1, 1),
        "decoder.conv_blocks.2.res.2.conv2.weight": (32, 32, 3, 3),
        "decoder.norm_out.weight": (32,),
        "quantize.embedding.weight": (64, 8),
        "post_quant_conv.weight": (16, 8, 1, 1),
    },
    "diffusers": {
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (64, 32, 1, 1),
        "encoder.down_blocks.0.downsamplers.0.conv.weight": (32, 32, 3, 3),
        "encoder.down_blocks.2.attentions.1.to_out.0.weight": (64, 64),
        "encoder.mid_block.attentions.0.to_q.bias": (64,),
        "encoder.mid_block.resnets.1.norm2.weight": (64,),
        "decoder.up_blocks.0.attentions.2.group_norm.weight": (64,),
        "decoder.up_blocks.0.upsamplers.0.conv.weight": (64, 64, 3, 3),
        "decoder.up_blocks.2.resnets.0.conv_shortcut.weight": (32, 64, 1, 1),
        "decoder.up_blocks.2.resnets.2.conv2.weight": (32, 32, 3, 3),
        "decoder.conv_norm_out.weight": (32,),
        "encoder.conv_in.weight": (32, 3, 3, 3),
        "quantize.embedding.weight": (64, 8),
        "quant_conv.weight": (8, 16, 1, 1),
    },
}
every_layout = pytest.mark.parametrize(("layout", "config"), CONFIGS.values(), ids=CONFIGS)


@every_layout
def test_there_and_back(layout: Layout, config: TokenizerConfig) -> None:
    torch.manual_seed(0)
    tokenizer, other = Tokenizer(config).eval(), Tokenizer(config).eval()
    theirs = export_state(tokenizer, layout)
    assert len(theirs) == len(tokenizer.state_dict())
    report = import_state(theirs | {"quantize.codebook_used": torch.zeros(5)}, config, layout)
    assert (report.missing, report.left_over) == ((), ("quantize.codebook_used",))
    assert set(report.used) == set(theirs)
    other.load_state_dict(report.state)
    images = torch.rand(1, 3, 32, 16) * 2 - 1
    assert torch.equal(tokenizer(images).reconstruction, other(images).reconstruction)


@pytest.mark.parametrize("project", SHAPES)
def test_names_and_shapes_as_there(project: str) -> None:
    layout, config = CONFIGS[project]
    theirs = {key: tuple(tensor.shape) for key, tensor in export_state(Tokenizer(config), layout).items()}
    assert SHAPES[project].items() <= theirs.items()
    levels = {key.split(".")[2] for key in theirs if "conv_blocks" in key or "_blocks" in key}
    assert levels == {"0", "1", "2"}
    assert not any(key.startswith(("encoder.level", "encoder.middle", "quantizer")) for key in theirs)


def test_full_size_configs() -> None:
    vq16 = config_from_llamagen({})
    with torch.device("meta"):
        tokenizer = Tokenizer(vq16)
    count = sum(parameter.numel() for parameter in tokenizer.parameters())
    assert 71e6 < count < 73e6, "72 M, as its authors say"
    assert (vq16.autoencoder.downsampling_factor, vq16.autoencoder.attention_resolutions) == (16, (16,))
    assert (vq16.quantizer.beta_placement, vq16.quantizer.l2_normalize) == ("corrected", True)
    assert config_from_diffusers(DIFFUSERS_CONFIG).quantizer.beta_placement == "legacy"


def test_an_export_is_what_the_taming_importer_reads() -> None:
    layout, config = CONFIGS["taming"]
    tokenizer = Tokenizer(config)
    imported = import_taming_tokenizer(export_state(tokenizer, layout), config)
    assert (imported.missing, imported.left_over) == ((), ())
    assert all(torch.equal(imported.state[name], value) for name, value in tokenizer.state_dict().items())


def test_what_is_missing_is_named() -> None:
    layout, config = CONFIGS["diffusers"]
    theirs = export_state(Tokenizer(config), layout)
    del theirs["quant_conv.bias"]
    theirs["encoder.conv_in.weight"] = torch.zeros(32, 4, 3, 3)
    report = import_state(theirs, config, layout)
    assert set(report.missing) == {"quant_conv.bias", "encoder.conv_in.weight"}
    assert report.left_over == ("encoder.conv_in.weight",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": [64, 96, 128]}, "multiple of the first"),
        ({"norm_type": "spatial"}, "norm_type 'spatial'"),
        ({"mid_block_add_attention": False}, "mid_block_add_attention False"),
        ({"out_channels": 4}, "out_channels 4"),
        ({"up_block_types": ["UpDecoderBlock2D"] * 3}, "attention at the same levels"),
    ],
)
def test_diffusers_models_that_are_not_supported(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_diffusers(DIFFUSERS_CONFIG | changes)


def test_what_a_project_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        config_from_llamagen({"decoder_ch_mult": [1, 2]})
    small = AutoencoderConfig(base_channels=32, channel_multipliers=(1,), num_res_blocks=1)
    tokenizer = Tokenizer(TokenizerConfig(autoencoder=small, codebook_dim=4, quantizer={"kind": "ema"}))
    with pytest.raises(ValueError, match="diffusers has no quantizer ema, only vector"):
        export_state(tokenizer, DIFFUSERS)
    for layout in (TAMING, DIFFUSERS):  # no key shows that, and their code would choose other indices
        with pytest.raises(ValueError, match="compares no unit vectors"):
            export_state(Tokenizer(CONFIGS["llamagen"][1]), layout)
    with pytest.raises(ValueError, match="latent_channels 256 with entries of codebook_dim 4"):
        export_state(
            Tokenizer(TokenizerConfig(autoencoder=small, codebook_dim=4, quantizer={"kind": "gumbel"})), TAMING
        )
    narrow = AutoencoderConfig(base_channels=8, channel_multipliers=(1,), num_res_blocks=1, num_groups=4)
    with pytest.raises(ValueError, match="norms of 32 groups, this tokenizer of 4"):
        export_state(Tokenizer(TokenizerConfig(autoencoder=narrow, codebook_dim=4)), TAMING)
