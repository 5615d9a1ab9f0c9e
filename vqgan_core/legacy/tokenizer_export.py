"""Our tokenizers as files that other projects load: what they call the tensors, and the config they build it from.

taming-transformers gets `model.ckpt` (a `state_dict` of tensors, nothing else is pickled) and `config.yaml`; diffusers
`diffusion_pytorch_model.safetensors` and `config.json`. Neither layout says where β is placed: their code has it on the
codebook term, which matters for training alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Literal

import safetensors.torch
import torch
import yaml
from torch import Tensor

from vqgan_core.legacy.layouts import DIFFUSERS, TAMING, export_state
from vqgan_core.legacy.other_tokenizers import config_to_diffusers
from vqgan_core.legacy.taming_tokenizer import config_to_taming
from vqgan_core.tokenizer import Tokenizer

__all__ = ["ExportProject", "export_files"]

ExportProject = Literal["taming", "diffusers"]


def export_files(project: ExportProject, tokenizer: Tokenizer, discriminator: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The files of a tokenizer in another project's layout.

    Args:
        project: whose.
        tokenizer: what is exported.
        discriminator: of its training, or empty. Only taming-transformers keeps one beside the tokenizer, and has no
            spectral norm.

    Raises:
        ValueError: the project has no such quantizer or norms, or no second level, or no distributions of pixels.
    """
    if tokenizer.top is not None or tokenizer.gives_distributions:
        what = "a second level" if tokenizer.top is not None else "pixels logit_laplace"
        raise ValueError(f"{project} has no tokenizer with {what}: it cannot be exported")
    if project == "diffusers":
        state = {key: value.contiguous() for key, value in export_state(tokenizer, DIFFUSERS).items()}
        return {
            "config.json": _json(config_to_diffusers(tokenizer.config)),
            "diffusion_pytorch_model.safetensors": safetensors.torch.save(state),
        }
    state = export_state(tokenizer, TAMING)
    if not any("parametrizations" in name for name in discriminator):
        state |= {f"loss.discriminator.main.{name.removeprefix('layers.')}": t for name, t in discriminator.items()}
    file = io.BytesIO()
    torch.save({"state_dict": state}, file)
    config = yaml.safe_dump(config_to_taming(tokenizer.config), sort_keys=False)
    return {"model.ckpt": file.getvalue(), "config.yaml": config.encode()}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
