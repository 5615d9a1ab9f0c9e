"""The dVAE of DALL·E: its tensors and what their shapes say of the config, in our words.

Source: the published model's keys, `encoder.blocks.…` and `decoder.blocks.…`: `input`, `output.conv`, and of each block
`group_N.block_N.res_path.conv_N` and `…id_path`, all with `w` and `b`. Groups count from 1, the decoder's from the
coarsest. It comes as two pickles of whole modules, which nobody should load: `checkpoint_file` says how the tensors of
both get into one file.

The encoder's last layer is our quantizer's projection; the decoder's first, which it applies to a one-hot grid, our
entries (with its bias: one entry is chosen, or a mixture whose weights add up to 1).

No tensor says how it was trained. What further training is told of the quantizer is the paper's (appendix A.2):
β = 6.6, and the temperature at which its schedule ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vqgan_core.config import DvaeAutoencoderConfig, GumbelQuantizerConfig, TokenizerConfig
from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.layouts import ImportReport, other_shapes
from vqgan_core.tokenizer import Tokenizer

__all__ = ["MARK", "RESOLUTION_PX", "config_from_dalle", "import_dalle"]

#: A key by which the model is known.
MARK = "encoder.blocks.input.w"
#: Of the published model's training. Nothing in the network refers to it.
RESOLUTION_PX = 256
PAPER_BETA, FINAL_TEMPERATURE = 6.6, 1 / 16

_ENTRIES, _ENTRIES_BIAS = "decoder.blocks.input.w", "decoder.blocks.input.b"
_LOGITS = "encoder.blocks.output.conv.w"
_BLOCK = re.compile(r"encoder\.blocks\.group_(\d+)\.block_(\d+)\.res_path\.conv_1\.w")
_LEAVES = {"weight": "w", "bias": "b"}


def config_from_dalle(state: Mapping[str, Tensor], resolution_px: int | None) -> TokenizerConfig:
    """Our config of a dVAE; the meta device will do.

    Args:
        state: its keys and tensors.
        resolution_px: height and width of training images; None: the published model's.

    Raises:
        CheckpointError: it is half a model.
    """
    for key in (_LOGITS, _ENTRIES):
        if key not in state:
            raise CheckpointError(
                f"there is no {key} among {len(state)} keys: a dVAE of DALL·E is an encoder and a decoder; save the "
                "tensors of both in one file, their keys beginning with encoder. and decoder."
            )
    places = [(int(match[1]), int(match[2])) for key in state if (match := _BLOCK.fullmatch(key))]
    width, image_channels = state[MARK].shape[:2]
    autoencoder = DvaeAutoencoderConfig(
        image_channels=image_channels,
        resolution_px=resolution_px or RESOLUTION_PX,
        base_channels=width,
        num_levels=max((group for group, _ in places), default=1),
        num_res_blocks=max((block for _, block in places), default=1),
    )
    values_for_an_index = image_channels * autoencoder.downsampling_factor**2
    return TokenizerConfig(
        codebook_size=state[_LOGITS].shape[0],
        codebook_dim=state[_ENTRIES].shape[0],
        autoencoder=autoencoder,
        quantizer=GumbelQuantizerConfig(
            kl_weight=PAPER_BETA / values_for_an_index,
            straight_through=False,
            temperature_start=FINAL_TEMPERATURE,
            temperature_peak=FINAL_TEMPERATURE,
            temperature_final=FINAL_TEMPERATURE,
        ),
        pixels="logit_laplace",
    )


def import_dalle(state: Mapping[str, Tensor], config: TokenizerConfig) -> ImportReport:
    """Find our tensors in a dVAE's state dict.

    Args:
        state: its keys and tensors; the meta device will do.
        config: from `config_from_dalle`, or a corrected one.

    Raises:
        ValueError: the config has another autoencoder.
    """
    autoencoder = config.autoencoder
    if not isinstance(autoencoder, DvaeAutoencoderConfig):
        raise ValueError(f"a model of DALL·E has autoencoder dvae, not {autoencoder.kind}")
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in Tokenizer(config).state_dict().items()}
    size, dim = expected.pop("quantizer.codebook")
    theirs = {_their_key(name, autoencoder.num_levels): (name, shape) for name, shape in expected.items()}
    shapes = {key: shape for key, (_, shape) in theirs.items()}
    shapes |= {_ENTRIES: torch.Size((dim, size, 1, 1)), _ENTRIES_BIAS: torch.Size((dim,))}
    used = [key for key, shape in shapes.items() if key in state and state[key].shape == shape]
    found = {theirs[key][0]: state[key] for key in used if key in theirs}
    if {_ENTRIES, _ENTRIES_BIAS} <= set(used):
        found["quantizer.codebook"] = state[_ENTRIES].float().flatten(1).T + state[_ENTRIES_BIAS].float()
    missing = tuple(key for key in shapes if key not in used)
    left_over = tuple(key for key in state if key not in used)
    return ImportReport(found, tuple(used), missing, left_over, other_shapes(state, shapes))


def _their_key(name: str, num_levels: int) -> str:
    side, *path, leaf = name.split(".")
    if side == "quantizer":  # the projection
        return f"encoder.blocks.output.conv.{_LEAVES[leaf]}"
    if path == ["conv_in"]:
        return f"{side}.blocks.input.{_LEAVES[leaf]}"
    if path == ["conv_out"]:
        return f"{side}.blocks.output.conv.{_LEAVES[leaf]}"
    level, block = int(path[0].removeprefix("level")), int(path[1].removeprefix("block"))
    group = level + 1 if side == "encoder" else num_levels - level
    inside = "id_path" if path[2] == "shortcut" else f"res_path.conv_{int(path[3]) + 1}"
    return f"{side}.blocks.group_{group}.block_{block + 1}.{inside}.{_LEAVES[leaf]}"
