"""Tokenizers of taming-transformers (`VQModel`, `GumbelVQ`, `VQSegmentationModel`): config and keys, in our words.

Source: the original's `ddconfig` and state dicts; names in a training checkpoint are `encoder.…`, `decoder.…`,
`quantize.embedding.weight`, `quant_conv.…`, `post_quant_conv.…`, and `loss.discriminator.…`, `loss.perceptual_loss.…`.
`GumbelVQ` has `quantize.proj.…` and `quantize.embed.weight` instead of an embedding; `VQSegmentationModel` a `colorize`
more, a random palette for pictures that says nothing but that the channels are classes: such a tokenizer reads label
maps, kept beside the images as `segmentation` unless its config has another name.

Imported models keep the original's placement of β unless told otherwise: that is what they were trained with. In the
original every Gumbel encode is random; imported, its indices are the most likely ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vqgan_core.config import (
    AutoencoderConfig,
    GumbelQuantizerConfig,
    ImagePlane,
    StoredPlane,
    TokenizerConfig,
    VectorQuantizerConfig,
)
from vqgan_core.config.planes import PLANE_NAME
from vqgan_core.legacy.layouts import TAMING, vqgan_of
from vqgan_core.tokenizer import Tokenizer

__all__ = [
    "TamingTokenizer",
    "config_from_taming",
    "config_to_taming",
    "ddconfig_of",
    "import_taming_tokenizer",
    "model_of",
    "our_key",
]

Model = Literal["VQModel", "GumbelVQ", "VQSegmentationModel"]

# Fixed in the original's code, not in its configs.
NUM_GROUPS = 32

_QUANTIZER_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "vector": ((r"quantize\.embedding\.weight", r"quantizer.codebook"),),
    "gumbel": (
        (r"quantize\.embed\.weight", r"quantizer.codebook"),
        (r"quantize\.proj\.(weight|bias)", r"quantizer.project.\1"),
    ),
}
_RULES: tuple[tuple[str, str], ...] = (
    (r"((?:post_)?quant_conv\.\w+)", r"\1"),
    (r"(encoder|decoder)\.((?:conv_in|conv_out|norm_out)\.\w+)", r"\1.\2"),
    (r"(encoder|decoder)\.(?:down|up)\.(\d+)\.block\.(\d+)\.(.+)", r"\1.level\2.block\3.\4"),
    (r"(encoder|decoder)\.(?:down|up)\.(\d+)\.attn\.(\d+)\.(.+)", r"\1.level\2.attention\3.\4"),
    (r"(encoder|decoder)\.(?:down|up)\.(\d+)\.(downsample|upsample)\.(.+)", r"\1.\3\2.\4"),
    (r"(encoder|decoder)\.mid\.block_1\.(.+)", r"\1.middle.block0.\2"),
    (r"(encoder|decoder)\.mid\.attn_1\.(.+)", r"\1.middle.attention0.\2"),
    (r"(encoder|decoder)\.mid\.block_2\.(.+)", r"\1.middle.block1.\2"),
    (r"loss\.discriminator\.main\.(.+)", r"discriminator.layers.\1"),
    (r"loss\.perceptual_loss\.(.+)", r"perceptual.\1"),
)
_PARTS = {"nin_shortcut": "shortcut", "q": "query", "k": "key", "v": "value", "proj_out": "project"}


@dataclass(frozen=True)
class TamingTokenizer:
    """One of their tokenizers, in our words, and what became of each of its keys."""

    config: TokenizerConfig
    state: dict[str, Tensor]
    """For `Tokenizer(config).load_state_dict`."""
    discriminator: dict[str, Tensor]
    """For `PatchDiscriminator.load_state_dict`; empty in an inference checkpoint."""
    perceptual: dict[str, Tensor]
    """A whole LPIPS state; empty in an inference checkpoint."""
    used: tuple[str, ...]
    """Their keys that found a place."""
    missing: tuple[str, ...]
    """Our keys that found no value, or one of another shape."""
    left_over: tuple[str, ...]
    """Their keys that mean nothing to us."""

    def tokenizer(self) -> Tokenizer:
        """Build it, in eval mode.

        Raises:
            ValueError: keys are missing.
        """
        if self.missing:
            raise ValueError(
                f"the checkpoint lacks {len(self.missing)} of the tokenizer's tensors, first {self.missing[0]}: is it "
                "a VQModel (or what the config says), and does its ddconfig belong to it?"
            )
        with torch.device("meta"):
            tokenizer = Tokenizer(self.config)
        tokenizer.load_state_dict(self.state, assign=True)
        return tokenizer.eval()


def our_key(key: str, quantizer: str = "vector") -> str | None:
    """Our name of one of their keys; None for one that is no part of a tokenizer with this quantizer or its losses."""
    for pattern, replacement in (*_QUANTIZER_RULES[quantizer], *_RULES):
        match = re.fullmatch(pattern, key)
        if match:
            ours = match.expand(replacement)
            if ours.startswith(("discriminator.", "perceptual.")):
                return ours
            return ".".join(_PARTS.get(part, part) for part in ours.split("."))
    return None


def config_from_taming(
    params: Mapping[str, Any], *, model: Model = "VQModel", beta_placement: Literal["legacy", "corrected"] = "legacy"
) -> TokenizerConfig:
    """Our config of a model's `params` (`ddconfig`, `n_embed`, `embed_dim`).

    Args:
        params: as in their YAML under `model.params`.
        model: their class, the last word of `model.target`.
        beta_placement: "legacy" is what their code trains with.

    Raises:
        ValueError: the model has a part that they never shipped weights of (`double_z`, other outputs than inputs).
    """
    dd = dict(params["ddconfig"])
    if dd.get("double_z", True):  # their default
        raise ValueError("ddconfig.double_z is true (or not given): a VQModel has double_z: false")
    if dd["out_ch"] != dd["in_channels"]:
        raise ValueError(f"ddconfig: out_ch {dd['out_ch']} differs from in_channels {dd['in_channels']}; not supported")
    if not dd.get("resamp_with_conv", True):
        raise ValueError(
            "ddconfig.resamp_with_conv is false: models with pooling instead of strided convolutions are not supported"
        )
    if params.get("n_labels", dd["in_channels"]) != dd["in_channels"]:
        raise ValueError(f"n_labels {params['n_labels']} differs from ddconfig.in_channels {dd['in_channels']}")
    takes_label_maps = model == "VQSegmentationModel"
    return TokenizerConfig(
        codebook_size=params["n_embed"],
        codebook_dim=params["embed_dim"],
        plane=_plane(params.get("image_key"), "segmentation" if takes_label_maps else None),
        label_maps=takes_label_maps,
        autoencoder=AutoencoderConfig(
            image_channels=dd["in_channels"],
            resolution_px=dd["resolution"],
            base_channels=dd["ch"],
            channel_multipliers=tuple(dd["ch_mult"]),
            num_res_blocks=dd["num_res_blocks"],
            attention_resolutions=tuple(dd["attn_resolutions"]),
            latent_channels=dd["z_channels"],
            num_groups=NUM_GROUPS,
            dropout=dd.get("dropout", 0.0),
        ),
        quantizer=_gumbel(params)
        if model == "GumbelVQ"
        else VectorQuantizerConfig(
            commitment_weight=params.get("beta", 0.25), beta_placement=beta_placement, l2_normalize=False
        ),
    )


def _plane(image_key: str | None, usual: str | None) -> ImagePlane | StoredPlane:
    """What of a record they read: the image, or a second file of it, kept under the name that they give it."""
    is_name = image_key is not None and image_key != "image" and re.fullmatch(PLANE_NAME, image_key)
    name = image_key if is_name else usual
    return ImagePlane() if name is None else StoredPlane(name=name)


def model_of(state: Mapping[str, Tensor], target: str = "") -> Model:
    """Which of their tokenizers this is.

    Args:
        state: their tensors; the meta device will do.
        target: the class that their config names, if there is one.
    """
    if "quantize.embed.weight" in state:
        return "GumbelVQ"
    palette, first = state.get("colorize"), state.get("encoder.conv_in.weight")
    # A palette with a colour for each input channel: the channels are classes.
    of_classes = palette is not None and first is not None and palette.ndim == 4 and palette.shape[1] == first.shape[1]
    return "VQSegmentationModel" if target == "VQSegmentationModel" or of_classes else "VQModel"


def _gumbel(params: Mapping[str, Any]) -> GumbelQuantizerConfig:
    """Of a `GumbelVQ`; without a temperature schedule, τ is 1, as theirs is."""
    schedule = params.get("temperature_scheduler_config", {}).get("params", {})
    return GumbelQuantizerConfig(
        kl_weight=params.get("kl_weight", 1e-8),
        straight_through=params.get("straight_through", True),
        temperature_start=schedule.get("lr_start", 1.0),
        temperature_peak=schedule.get("lr_max", 1.0),
        temperature_final=schedule.get("lr_min", 1.0),
        temperature_warmup_steps=schedule.get("warm_up_steps", 0),
        temperature_decay_steps=schedule.get("max_decay_steps", 1),
    )


def config_to_taming(config: TokenizerConfig) -> dict[str, Any]:
    """Their YAML of one of our tokenizers, without losses: a `VQModel`, `VQSegmentationModel` or `GumbelVQ`."""
    autoencoder, quantizer = vqgan_of(config, TAMING.name), config.quantizer
    params: dict[str, Any] = {
        "embed_dim": config.codebook_dim,
        "n_embed": config.codebook_size,
        "ddconfig": {
            "double_z": False,
            "z_channels": autoencoder.latent_channels,
            "resolution": autoencoder.resolution_px,
            "in_channels": autoencoder.image_channels,
            "out_ch": autoencoder.image_channels,
            "ch": autoencoder.base_channels,
            "ch_mult": list(autoencoder.channel_multipliers),
            "num_res_blocks": autoencoder.num_res_blocks,
            "attn_resolutions": list(autoencoder.attention_resolutions),
            "dropout": autoencoder.dropout,
        },
        "lossconfig": {"target": "taming.modules.losses.vqperceptual.DummyLoss"},
    }
    if config.plane.kind == "stored":
        params["image_key"] = config.plane.name
    if not isinstance(quantizer, GumbelQuantizerConfig):
        if config.label_maps:
            params["n_labels"] = autoencoder.image_channels
        model: Model = "VQSegmentationModel" if config.label_maps else "VQModel"
        return {"model": {"target": f"taming.models.vqgan.{model}", "params": params}}
    schedule = {
        "lr_start": quantizer.temperature_start,
        "lr_max": quantizer.temperature_peak,
        "lr_min": quantizer.temperature_final,
        "warm_up_steps": quantizer.temperature_warmup_steps,
        "max_decay_steps": quantizer.temperature_decay_steps,
    }
    scheduler = {
        "target": "taming.lr_scheduler.LambdaWarmUpCosineScheduler",
        "params": {**schedule, "verbosity_interval": 0},
    }
    params |= {"kl_weight": quantizer.kl_weight, "temperature_scheduler_config": scheduler}
    return {"model": {"target": "taming.models.vqgan.GumbelVQ", "params": params}}


def ddconfig_of(state: Mapping[str, Tensor], *, resolution_px: int = 256) -> dict[str, Any]:
    """Read a model's params off its tensors' shapes, where its YAML is lost.

    Args:
        state: their state dict; the meta device will do.
        resolution_px: the training resolution, which no shape tells. It only names the levels with attention.
    """
    width = state["encoder.conv_in.weight"].shape[0]
    firsts = _indexed(state, r"encoder\.down\.(\d+)\.block\.0\.conv1\.weight")
    attention = _indexed(state, r"encoder\.down\.(\d+)\.attn\.0\.q\.weight")
    blocks = _indexed(state, r"encoder\.down\.0\.block\.(\d+)\.conv1\.weight")
    entries = state["quantize.embed.weight" if "quantize.embed.weight" in state else "quantize.embedding.weight"]
    return {
        "embed_dim": entries.shape[1],
        "n_embed": entries.shape[0],
        "ddconfig": {
            "double_z": False,
            "z_channels": state["encoder.conv_out.weight"].shape[0],
            "resolution": resolution_px,
            "in_channels": state["encoder.conv_in.weight"].shape[1],
            "out_ch": state["decoder.conv_out.weight"].shape[0],
            "ch": width,
            "ch_mult": [firsts[level] // width for level in sorted(firsts)],
            "num_res_blocks": len(blocks),
            "attn_resolutions": [resolution_px >> level for level in sorted(attention)],
        },
    }


def import_taming_tokenizer(state: Mapping[str, Tensor], config: TokenizerConfig) -> TamingTokenizer:
    """Sort a model's tensors into ours; nothing is dropped without being named.

    Args:
        state: their state dict, with or without `loss.…` keys.
        config: from `config_from_taming`.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in Tokenizer(config).state_dict().items()}
    ours: dict[str, dict[str, Tensor]] = {"tokenizer": {}, "discriminator": {}, "perceptual": {}}
    used, left_over = [], []
    for key, tensor in state.items():
        name = our_key(key, config.quantizer.kind)
        room, _, rest = (name or "").partition(".")
        if room in ("discriminator", "perceptual"):
            ours[room][rest] = tensor
        elif name is not None and expected.get(name) == tensor.shape:
            ours["tokenizer"][name] = tensor
        else:
            left_over.append(key)
            continue
        used.append(key)
    missing = tuple(name for name in expected if name not in ours["tokenizer"])
    return TamingTokenizer(
        config, ours["tokenizer"], ours["discriminator"], ours["perceptual"], tuple(used), missing, tuple(left_over)
    )


def _indexed(state: Mapping[str, Tensor], pattern: str) -> dict[int, int]:
    """The output widths of the tensors whose names match, by the number in the name."""
    matches = ((re.fullmatch(pattern, name), tensor) for name, tensor in state.items())
    return {int(match.group(1)): tensor.shape[0] for match, tensor in matches if match}
