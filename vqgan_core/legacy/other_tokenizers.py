"""Configs of LlamaGen's and diffusers' VQ models, in our words. Their state dicts: `layouts`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqgan_core.config import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig
from vqgan_core.legacy.layouts import DIFFUSERS, vqgan_of

__all__ = ["config_from_diffusers", "config_from_llamagen", "config_to_diffusers", "llamagen_args_of"]

# Fixed in LlamaGen's code.
LLAMAGEN_WIDTH, LLAMAGEN_BLOCKS, NUM_GROUPS = 128, 2, 32


def config_from_llamagen(args: Mapping[str, Any], *, resolution_px: int = 256) -> TokenizerConfig:
    """Our config of a LlamaGen `VQModel`; what is not given is as in VQ-16, with attention at the coarsest level.

    Args:
        args: fields of their ModelArgs, and `ch` where it is not 128.
        resolution_px: the training resolution.

    Raises:
        ValueError: encoder and decoder differ.
    """
    multipliers = tuple(args.get("encoder_ch_mult", (1, 1, 2, 2, 4)))
    if tuple(args.get("decoder_ch_mult", multipliers)) != multipliers:
        raise ValueError(
            f"encoder_ch_mult {list(multipliers)} and decoder_ch_mult {list(args['decoder_ch_mult'])} differ; here "
            "both halves have the same levels"
        )
    return TokenizerConfig(
        codebook_size=args.get("codebook_size", 16384),
        codebook_dim=args.get("codebook_embed_dim", 8),
        autoencoder=AutoencoderConfig(
            resolution_px=resolution_px,
            base_channels=args.get("ch", LLAMAGEN_WIDTH),
            channel_multipliers=multipliers,
            num_res_blocks=LLAMAGEN_BLOCKS,
            attention_resolutions=(resolution_px >> (len(multipliers) - 1),),
            latent_channels=args.get("z_channels", 256),
            num_groups=NUM_GROUPS,
            dropout=args.get("dropout_p", 0.0),
        ),
        quantizer=VectorQuantizerConfig(
            commitment_weight=args.get("commit_loss_beta", 0.25), l2_normalize=args.get("codebook_l2_norm", True)
        ),
    )


def llamagen_args_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes of a LlamaGen tokenizer say of its arguments; the meta device will do."""
    width = state["encoder.conv_in.weight"].shape[0]
    multipliers = {
        int(match[1]): tensor.shape[0] // width
        for key, tensor in state.items()
        if (match := re.fullmatch(r"encoder\.conv_blocks\.(\d+)\.res\.0\.conv1\.weight", key))
    }
    size, dim = state["quantize.embedding.weight"].shape
    return {
        "ch": width,
        "encoder_ch_mult": [multipliers[level] for level in sorted(multipliers)],
        "codebook_size": size,
        "codebook_embed_dim": dim,
        "z_channels": state["encoder.conv_out.weight"].shape[0],
    }


def config_from_diffusers(config: Mapping[str, Any]) -> TokenizerConfig:
    """Our config of a diffusers `VQModel`, from its `config.json`. Its code scales the codebook term by β, as taming's.

    Raises:
        ValueError: it has a part that this project has not.
    """
    widths = list(config["block_out_channels"])
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels {widths}: each must be a multiple of the first")
    _require(config, "norm_type", "group")
    _require(config, "act_fn", "silu")
    _require(config, "mid_block_add_attention", expected=True)
    _require(config, "out_channels", config.get("in_channels", 3))
    down = ["Attn" in kind for kind in config["down_block_types"]]
    up = ["Attn" in kind for kind in config["up_block_types"]]
    if down != up[::-1]:
        raise ValueError(
            f"down_block_types {config['down_block_types']} and up_block_types {config['up_block_types']}: here both "
            "halves have attention at the same levels"
        )
    resolution_px = config.get("sample_size", 32)
    latent_channels = config.get("latent_channels", 3)
    return TokenizerConfig(
        codebook_size=config.get("num_vq_embeddings", 256),
        codebook_dim=config.get("vq_embed_dim") or latent_channels,
        autoencoder=AutoencoderConfig(
            image_channels=config.get("in_channels", 3),
            resolution_px=resolution_px,
            base_channels=widths[0],
            channel_multipliers=tuple(width // widths[0] for width in widths),
            num_res_blocks=config.get("layers_per_block", 1),
            attention_resolutions=tuple(resolution_px >> level for level, has in enumerate(down) if has),
            latent_channels=latent_channels,
            num_groups=config.get("norm_num_groups", 32),
        ),
        quantizer=VectorQuantizerConfig(commitment_weight=0.25, beta_placement="legacy"),
    )


def config_to_diffusers(config: TokenizerConfig) -> dict[str, Any]:
    """The `config.json` of a diffusers `VQModel` with this tokenizer's networks."""
    autoencoder = vqgan_of(config, DIFFUSERS.name)
    attention = [level in autoencoder.attention_levels for level in range(len(autoencoder.channel_multipliers))]
    return {
        "_class_name": "VQModel",
        "in_channels": autoencoder.image_channels,
        "out_channels": autoencoder.image_channels,
        "sample_size": autoencoder.resolution_px,
        "block_out_channels": [autoencoder.base_channels * times for times in autoencoder.channel_multipliers],
        "down_block_types": [f"{'Attn' if has else ''}DownEncoderBlock2D" for has in attention],
        "up_block_types": [f"{'Attn' if has else ''}UpDecoderBlock2D" for has in reversed(attention)],
        "layers_per_block": autoencoder.num_res_blocks,
        "latent_channels": autoencoder.latent_channels,
        "num_vq_embeddings": config.codebook_size,
        "vq_embed_dim": config.codebook_dim,
        "norm_num_groups": autoencoder.num_groups,
        "norm_type": "group",
        "act_fn": "silu",
        "mid_block_add_attention": True,
    }


def _require(config: Mapping[str, Any], field: str, expected: Any) -> None:
    if config.get(field, expected) != expected:
        raise ValueError(f"{field} {config[field]!r} of this VQModel is not supported here, only {expected!r}")
