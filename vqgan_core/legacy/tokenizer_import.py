"""Tokenizers of other projects: from tensors and config to ours, with the account of every key.

The architecture comes from the project's own config; where there is none, from the shapes, as far as they say it; and
any field of the result may then be corrected. No shape says at which resolution a model was trained, so that is asked
for. What else they do not say is as in the project's code: β on the codebook term in taming-transformers and diffusers
("legacy"), unit vectors in LlamaGen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import safetensors.torch
import torch
from torch import Tensor

from vqgan_core.config import AutoencoderConfig, ConfigError, TokenizerConfig, merge
from vqgan_core.legacy import dalle
from vqgan_core.legacy.checkpoint_file import CheckpointError
from vqgan_core.legacy.key_report import KeyReport
from vqgan_core.legacy.layouts import DIFFUSERS, LLAMAGEN, TAMING, Layout, import_state
from vqgan_core.legacy.other_tokenizers import config_from_diffusers, config_from_llamagen, llamagen_args_of
from vqgan_core.legacy.taming_tokenizer import config_from_taming, ddconfig_of, model_of, our_key
from vqgan_core.legacy.their_config import Project, TheirConfig
from vqgan_core.tokenizer import Tokenizer

__all__ = ["LAYOUTS", "ImportedTokenizer", "config_of", "import_tokenizer"]

LAYOUTS: Mapping[Project, Layout] = {"taming": TAMING, "llamagen": LLAMAGEN, "diffusers": DIFFUSERS}
NETWORKS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
#: A random palette; which entries are in use (a count, or a list of them: our indices are those of all entries).
IGNORED = re.compile(r"colorize|quantize\.used|quantize\.codebook_used|loss\.perceptual_loss\..+")

# Keys by which a project's tokenizers are known.
_MARKS: Mapping[Project, str] = {
    "taming": "encoder.down.0.block.0.conv1.weight",
    "llamagen": "encoder.conv_blocks.0.res.0.conv1.weight",
    "diffusers": "encoder.down_blocks.0.resnets.0.conv1.weight",
    "dalle": dalle.MARK,
}


@dataclass(frozen=True)
class ImportedTokenizer:
    """A tokenizer of another project, in our words."""

    config: TokenizerConfig
    state: Mapping[str, Tensor]
    """For `Tokenizer(config)`; fp32."""
    discriminator: Mapping[str, Tensor]
    """For `PatchDiscriminator`; empty if the file has none."""
    report: KeyReport

    def to_files(self) -> dict[str, bytes]:
        """The files of a published tokenizer.

        Raises:
            CheckpointError: keys are missing or left over.
        """
        size = f"f{self.config.autoencoder.downsampling_factor} K{self.config.codebook_size}"
        self.report.require_exact(f"tokenizer {size} × {self.config.codebook_dim} with this config", NETWORKS)
        with torch.device("meta"):
            tokenizer = Tokenizer(self.config)
        tokenizer.load_state_dict(self.state, assign=True)
        files = tokenizer.to_files()
        if self.discriminator:
            files["discriminator.safetensors"] = safetensors.torch.save(dict(self.discriminator))
        return files


def config_of(
    project: Project,
    state: Mapping[str, Tensor],
    theirs: TheirConfig | None,
    *,
    resolution_px: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TokenizerConfig:
    """Our config of their tokenizer.

    Args:
        project: whose layout it is.
        state: their tensors; the meta device will do.
        theirs: their config, or None: read off the shapes.
        resolution_px: height and width of training images, in place of what the config says.
        overrides: corrections by dotted keys.

    Raises:
        CheckpointError: it is a model of another project, or the shapes do not say enough.
        ValueError: the model has a part that this project has not.
    """
    _require_project(project, state)
    config = _CONFIGS[project](state, theirs, resolution_px)
    config = config if resolution_px is None else _at_resolution(config, resolution_px)
    values: dict[str, Any] = config.model_dump(mode="json")
    for key, value in (overrides or {}).items():
        if key == "autoencoder.resolution_px":
            raise ConfigError(f"{key}={value}: say --resolution {value}, which keeps attention at its levels")
        values = merge(values, key, value)
    return TokenizerConfig.validated(values, origin="the imported tokenizer")


def import_tokenizer(project: Project, state: Mapping[str, Tensor], config: TokenizerConfig) -> ImportedTokenizer:
    """Sort another project's tensors into ours; nothing is dropped without being named.

    Raises:
        ValueError: the project has no such quantizer.
    """
    layout = LAYOUTS.get(project)
    found = dalle.import_dalle(state, config) if layout is None else import_state(state, config, layout)
    discriminator: dict[str, Tensor] = {}
    ignored: list[str] = []
    left_over: list[str] = []
    for key in found.left_over:
        name = our_key(key) if project == "taming" else None
        if name is not None and name.startswith("discriminator."):
            discriminator[name.removeprefix("discriminator.")] = state[key]
        else:
            (ignored if IGNORED.fullmatch(key) else left_over).append(key)
    used = [key for key in state if key not in {*ignored, *left_over}]
    report = KeyReport(tuple(used), tuple(ignored), found.missing, tuple(left_over), found.other_shapes)
    return ImportedTokenizer(config, _fp32(found.state), _fp32(discriminator), report)


def _fp32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half precision becomes fp32; counters stay."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in tensors.items()
    }


def _require_project(project: Project, state: Mapping[str, Tensor]) -> None:
    if _MARKS[project] in state:
        return
    other = next((name for name in get_args(Project) if _MARKS[name] in state), None)
    if other is not None:
        raise CheckpointError(f"these are the keys of a {other} tokenizer, not of {project}: tessera import {other}")
    raise CheckpointError(
        f"this is no tokenizer of {project}: there is no {_MARKS[project]} among its {len(state)} keys, which begin "
        f"with {', '.join(sorted(state)[:3])}"
    )


def _at_resolution(config: TokenizerConfig, resolution_px: int) -> TokenizerConfig:
    """The same networks for images of another size: attention stays at its levels."""
    autoencoder = config.autoencoder
    factor = autoencoder.downsampling_factor
    if resolution_px % factor:
        raise CheckpointError(f"resolution {resolution_px} is no multiple of the downsampling factor f = {factor}")
    sizes: dict[str, Any] = {"resolution_px": resolution_px}
    if isinstance(autoencoder, AutoencoderConfig):
        sizes["attention_resolutions"] = [resolution_px >> level for level in autoencoder.attention_levels]
    values = config.model_dump(mode="json")
    return TokenizerConfig.model_validate(values | {"autoencoder": values["autoencoder"] | sizes})


def _asked(resolution_px: int | None) -> int:
    if resolution_px is None:
        raise CheckpointError(
            "there is no config beside this file, and shapes do not say at which resolution it was trained: give its "
            "config with --config, or --resolution (256 for most published models)"
        )
    return resolution_px


def _taming(state: Mapping[str, Tensor], theirs: TheirConfig | None, resolution_px: int | None) -> TokenizerConfig:
    params = ddconfig_of(state, resolution_px=_asked(resolution_px)) if theirs is None else theirs.params
    kind = model_of(state, "" if theirs is None else theirs.target)
    return _complete(theirs, lambda: config_from_taming(params, model=kind))


def _llamagen(state: Mapping[str, Tensor], theirs: TheirConfig | None, resolution_px: int | None) -> TokenizerConfig:
    args = llamagen_args_of(state) | dict(theirs.params if theirs else {})
    return config_from_llamagen(args, resolution_px=_asked(resolution_px))


def _diffusers(_state: Mapping[str, Tensor], theirs: TheirConfig | None, _px: int | None) -> TokenizerConfig:
    if theirs is None:
        raise CheckpointError(
            "a diffusers model has its config.json beside it, which alone says how many groups its norms have: fetch "
            "that too, or give it with --config"
        )
    return _complete(theirs, lambda: config_from_diffusers(theirs.params))


def _dalle(state: Mapping[str, Tensor], _theirs: TheirConfig | None, resolution_px: int | None) -> TokenizerConfig:
    return dalle.config_from_dalle(state, resolution_px)


def _complete(theirs: TheirConfig | None, make: Callable[[], TokenizerConfig]) -> TokenizerConfig:
    try:
        return make()
    except KeyError as error:
        kind = f" of {theirs.target}" if theirs and theirs.target else ""
        raise CheckpointError(f"the config{kind} lacks {error}: is it that of a tokenizer?") from None


_CONFIGS: Mapping[Project, Callable[[Mapping[str, Tensor], TheirConfig | None, int | None], TokenizerConfig]] = {
    "taming": _taming,
    "llamagen": _llamagen,
    "diffusers": _diffusers,
    "dalle": _dalle,
}
