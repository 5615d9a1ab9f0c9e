"""Models from their artifacts."""

from __future__ import annotations

import torch

from datasets.store import Artifact
from vqgan_core.prior import Prior
from vqgan_core.tokenizer import Tokenizer

MODEL_FILES = ("config.json", "model.safetensors")


def load_tokenizer(artifact: Artifact, device: torch.device) -> Tokenizer:
    """A published tokenizer, ready to encode and decode."""
    return Tokenizer.from_files(_files(artifact)).to(device).eval()


def load_prior(artifact: Artifact, device: torch.device) -> Prior:
    """A published prior, ready to score and to draw."""
    return Prior.from_files(_files(artifact)).to(device).eval()


def _files(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.read(name) for name in MODEL_FILES}
