"""Models from their artifacts."""

from __future__ import annotations

import torch

from datasets.errors import TokenMismatch
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


def require_own_tokenizer(prior: Artifact, tokenizer: Artifact) -> TokenSpec:
    """What a prior knows of its tokens, once it is sure that this tokenizer made them.

    Raises:
        TokenMismatch: another one did.
    """
    _, spec = prior_config(prior)
    if spec.tokenizer != tokenizer.manifest.digest:
        raise TokenMismatch(
            f"the prior {prior.manifest.fingerprint[:12]} reads tokens of the tokenizer with digest "
            f"{spec.tokenizer[:12]}, given is {tokenizer.manifest.digest[:12]}: give it the tokenizer that made its "
            "tokens (tessera show names it)"
        )
    return spec


def _files(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.read(name) for name in MODEL_FILES}


def require_its_tokens(prior: Artifact, tokens: Artifact) -> None:
    """Refuse tokens that a prior cannot read.

    Raises:
        TokenMismatch: another tokenizer made them.
    """
    _, spec = prior_config(prior)
    made_by = [ref.digest[:12] for ref in tokens.manifest.inputs if ref.kind == "tokenizer"]
    if spec.tokenizer[:12] not in made_by:
        raise TokenMismatch(
            f"the prior {prior.manifest.fingerprint[:12]} reads tokens of the tokenizer with digest "
            f"{spec.tokenizer[:12]}, these are of {', '.join(made_by)}: encode the corpus with its own tokenizer "
            "(tessera show names it)"
        )
