"""Models from their artifacts."""

from __future__ import annotations

import torch

from datasets.store import Artifact
from vqgan_core.config import PriorConfig, TokenizerConfig, TokenSpec
from vqgan_core.prior import Prior
from vqgan_core.prior.model import read_config as read_prior_config
from vqgan_core.tokenizer import Tokenizer
from vqgan_core.tokenizer.files import read_config as read_tokenizer_config

MODEL_FILES = ("config.json", "model.safetensors")


def load_tokenizer(artifact: Artifact, device: torch.device) -> Tokenizer:
    """A published tokenizer, ready to encode and decode."""
    return Tokenizer.from_files(_files(artifact)).to(device).eval()


def load_prior(artifact: Artifact, device: torch.device) -> Prior:
    """A published prior, ready to score and to draw."""
    return Prior.from_files(_files(artifact)).to(device).eval()


def tokenizer_config(artifact: Artifact) -> TokenizerConfig:
    """The config of a published tokenizer; its weights are not read."""
    return read_tokenizer_config({"config.json": artifact.read("config.json")})


def prior_config(artifact: Artifact) -> tuple[PriorConfig, TokenSpec]:
    """The config of a published prior and what it knows of its tokens; its weights are not read."""
    return read_prior_config({"config.json": artifact.read("config.json")})


def _files(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.read(name) for name in MODEL_FILES}
