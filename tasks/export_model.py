"""A published tokenizer as files that another project loads."""

from __future__ import annotations

import secrets
from pathlib import Path

import safetensors.torch
import torch

from datasets.store import Artifact
from tasks.models import load_tokenizer
from vqgan_core.legacy.tokenizer_export import ExportProject, export_files
from vqgan_core.training.tokenizer_step import DISCRIMINATOR_FILE


def export_tokenizer(project: ExportProject, artifact: Artifact, folder: Path) -> list[Path]:
    """Write a tokenizer in another project's layout into a new folder; the folder appears whole or not at all.

    Returns:
        The files.

    Raises:
        ValueError: the folder is there already, or the project has no such tokenizer.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already: name a folder that is not")
    tokenizer = load_tokenizer(artifact, torch.device("cpu"))
    has_discriminator = any(entry.path == DISCRIMINATOR_FILE for entry in artifact.manifest.files)
    discriminator = safetensors.torch.load(artifact.read(DISCRIMINATOR_FILE)) if has_discriminator else {}
    files = export_files(project, tokenizer, discriminator)
    beside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    beside.mkdir(parents=True)
    for name, data in files.items():
        (beside / name).write_bytes(data)
    beside.rename(folder)
    return [folder / name for name in files]
