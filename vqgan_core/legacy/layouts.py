"""The same autoencoder under other names: state dicts of taming-transformers, LlamaGen and diffusers.

All three descend from one network, so a layout is a renaming: where a level's blocks are, what their parts are called,
and whether the decoder counts its levels from the coarsest. diffusers also keeps the 1×1 convolutions of attention as
matrices. Names go from ours to theirs and an import looks up each of ours, so that what it reports as missing or left
over is all there is.

`taming_tokenizer` reads checkpoints of training, with losses; this file reads and writes the networks alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vqgan_core.config import AutoencoderConfig, TokenizerConfig
from vqgan_core.tokenizer import Tokenizer

__all__ = [
    "DIFFUSERS",
    "LLAMAGEN",
    "TAMING",
    "ImportReport",
    "Layout",
    "export_state",
    "import_state",
    "other_shapes",
    "vqgan_of",
]

_PARTS = {"shortcut": "nin_shortcut", "query": "q", "key": "k", "value": "v", "project": "proj_out"}
_QUANTIZER = {
    "vector": {"codebook": "embedding.weight"},
    "gumbel": {"codebook": "embed.weight", "project.weight": "proj.weight", "project.bias": "proj.bias"},
}


@dataclass(frozen=True)
class Layout:
    """What one project calls the parts of the network."""

    name: str
    """Of the project, for messages."""
    levels: Mapping[str, str]
    """Of encoder and decoder: a level, by number."""
    block: str
    """A residual block inside a level, by number."""
    attention: str
    """An attention block inside a level, by number."""
    resample: Mapping[str, str]
    """`downsample` and `upsample` inside a level."""
    middle: Mapping[str, str]
    """`block0`, `attention0` and `block1` between encoder levels and latents."""
    parts: Mapping[str, str]
    """Parts of blocks, and layers outside of blocks, that have another name."""
    quantizers: tuple[str, ...] = ("vector",)
    """Kinds of quantizers that the project has."""
    decoder_from_coarsest: bool = False
    """Whether level 0 of the decoder is the coarsest."""
    attention_matrices: bool = False
    """Whether attention has matrices where we have 1×1 convolutions."""
    num_groups: int | None = 32
    """Groups of its norms, where its code fixes them."""
    unit_vectors: bool = False
    """Whether its quantizer can compare unit vectors."""


TAMING = Layout(
    name="taming-transformers",
    levels={"encoder": "down.{}", "decoder": "up.{}"},
    block="block.{}",
    attention="attn.{}",
    resample={"downsample": "downsample", "upsample": "upsample"},
    middle={"block0": "mid.block_1", "attention0": "mid.attn_1", "block1": "mid.block_2"},
    parts=_PARTS,
    quantizers=("vector", "gumbel"),
)
LLAMAGEN = Layout(
    name="LlamaGen",
    levels={"encoder": "conv_blocks.{}", "decoder": "conv_blocks.{}"},
    block="res.{}",
    attention="attn.{}",
    resample={"downsample": "downsample", "upsample": "upsample"},
    middle={"block0": "mid.0", "attention0": "mid.1", "block1": "mid.2"},
    parts=_PARTS,
    decoder_from_coarsest=True,
    unit_vectors=True,
)
DIFFUSERS = Layout(
    name="diffusers",
    levels={"encoder": "down_blocks.{}", "decoder": "up_blocks.{}"},
    block="resnets.{}",
    attention="attentions.{}",
    resample={"downsample": "downsamplers.0", "upsample": "upsamplers.0"},
    middle={
        "block0": "mid_block.resnets.0",
        "attention0": "mid_block.attentions.0",
        "block1": "mid_block.resnets.1",
    },
    parts={
        "shortcut": "conv_shortcut",
        "norm": "group_norm",
        "query": "to_q",
        "key": "to_k",
        "value": "to_v",
        "project": "to_out.0",
        "norm_out": "conv_norm_out",
    },
    decoder_from_coarsest=True,
    attention_matrices=True,
    num_groups=None,
)


@dataclass(frozen=True)
class ImportReport:
    """What became of a state dict."""

    state: dict[str, Tensor]
    """For `Tokenizer(config).load_state_dict`."""
    used: tuple[str, ...]
    """Their keys that found a place."""
    missing: tuple[str, ...]
    """Their keys that we looked for and that are not there, or have another shape."""
    left_over: tuple[str, ...]
    """Their keys that mean nothing to us."""
    other_shapes: Mapping[str, str]
    """Of missing keys that are there: their shape, and the one that we looked for."""


def export_state(tokenizer: Tokenizer, layout: Layout) -> dict[str, Tensor]:
    """A tokenizer's tensors under another project's names; they share memory where their shapes allow it.

    Raises:
        ValueError: the project has no such quantizer, or fixes another number of groups.
    """
    _require_expressible(tokenizer.config, layout)
    names = _their_names(tokenizer.config, tokenizer.state_dict(), layout)
    return {names[name]: _exported(name, tensor, layout) for name, tensor in tokenizer.state_dict().items()}


def import_state(state: Mapping[str, Tensor], config: TokenizerConfig, layout: Layout) -> ImportReport:
    """Find our tensors in another project's state dict.

    Args:
        state: their keys and tensors; the meta device will do.
        config: ours, of the model that it should be.
        layout: of the project.

    Raises:
        ValueError: the project has no such quantizer.
    """
    with torch.device("meta"):
        expected = Tokenizer(config).state_dict()
    names = _their_names(config, expected, layout)
    shapes = {key: _exported(name, expected[name], layout).shape for name, key in names.items()}
    found = {
        name: state[key].view(expected[name].shape)
        for name, key in names.items()
        if key in state and state[key].shape == shapes[key]
    }
    used = tuple(names[name] for name in found)
    missing = tuple(key for name, key in names.items() if name not in found)
    left_over = tuple(key for key in state if key not in used)
    return ImportReport(found, used, missing, left_over, other_shapes(state, shapes))


def other_shapes(state: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> dict[str, str]:
    """What to say of tensors that are there, but have another shape than is expected."""
    differ = {key: state[key].shape for key, shape in expected.items() if key in state and state[key].shape != shape}
    return {key: f"{_said(shape)}, not {_said(expected[key])}" for key, shape in differ.items()}


def _said(shape: torch.Size) -> str:
    return " × ".join(map(str, shape))


def vqgan_of(config: TokenizerConfig, project: str) -> AutoencoderConfig:
    """The networks of a tokenizer for a project that has a VQGAN's alone.

    Raises:
        ValueError: they are others.
    """
    if not isinstance(config.autoencoder, AutoencoderConfig):
        raise ValueError(f"{project} has no autoencoder {config.autoencoder.kind}: a tokenizer with that stays here")
    return config.autoencoder


def _require_expressible(config: TokenizerConfig, layout: Layout) -> None:
    """What no key shows: in the project's code these tensors would be another model."""
    quantizer, autoencoder = config.quantizer, vqgan_of(config, layout.name)
    groups = autoencoder.num_groups
    if getattr(quantizer, "l2_normalize", False) and not layout.unit_vectors:
        raise ValueError(f"{layout.name} compares no unit vectors (l2_normalize): its code would choose other indices")
    if quantizer.kind == "gumbel" and config.codebook_dim != autoencoder.latent_channels:
        raise ValueError(
            f"{layout.name} compares latents of latent_channels {autoencoder.latent_channels} with entries of "
            f"codebook_dim {config.codebook_dim}: its code needs both to be the same"
        )
    if layout.num_groups not in {None, groups}:
        raise ValueError(f"{layout.name} has norms of {layout.num_groups} groups, this tokenizer of {groups}")


def _their_names(config: TokenizerConfig, ours: Mapping[str, Tensor], layout: Layout) -> dict[str, str]:
    kind = config.quantizer.kind
    if kind not in layout.quantizers:
        raise ValueError(
            f"{layout.name} has no quantizer {kind}, only {', '.join(layout.quantizers)}: a tokenizer with that stays "
            "here"
        )
    coarsest = len(vqgan_of(config, layout.name).channel_multipliers) - 1
    return {name: _their_name(name, kind, coarsest, layout) for name in ours}


def _their_name(name: str, quantizer: str, coarsest: int, layout: Layout) -> str:
    side, _, rest = name.partition(".")
    if side == "quantizer":
        return f"quantize.{_QUANTIZER[quantizer][rest]}"
    if side not in layout.levels:
        return name  # quant_conv, post_quant_conv
    *path, leaf = rest.split(".")
    head = path.pop(0)
    if head == "middle":
        parts = [layout.middle[path.pop(0)]]
    elif match := re.fullmatch(r"(level|downsample|upsample)(\d+)", head):
        reverse = side == "decoder" and layout.decoder_from_coarsest
        number = coarsest - int(match[2]) if reverse else int(match[2])
        inside = _in_level(path.pop(0), layout) if match[1] == "level" else layout.resample[match[1]]
        parts = [layout.levels[side].format(number), inside]
    else:
        parts = [layout.parts.get(head, head)]
    return ".".join([side, *parts, *(layout.parts.get(part, part) for part in path), leaf])


def _in_level(block: str, layout: Layout) -> str:
    match = re.fullmatch(r"(block|attention)(\d+)", block)
    assert match is not None, f"{block} is nothing that a level has"
    return (layout.block if match[1] == "block" else layout.attention).format(match[2])


def _exported(name: str, tensor: Tensor, layout: Layout) -> Tensor:
    is_matrix = layout.attention_matrices and ".attention" in name and tensor.ndim == 4
    return tensor.flatten(1) if is_matrix else tensor
