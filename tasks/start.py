"""The artifact that a training begins with: found by what `init_from` says, and checked before anything runs."""

from __future__ import annotations

import safetensors.torch
import torch

from datasets.config import StoreConfig
from datasets.store import Artifact, Store
from datasets.store.lineage import find_artifact
from tasks.config import PipelineConfig
from tasks.models import load_tokenizer, prior_config, tokenizer_config
from vqgan_core.config import TrainPriorConfig, TrainTokenizerConfig
from vqgan_core.training.start import TokenizerStart, require_same_prior, require_same_tokenizer
from vqgan_core.training.tokenizer_step import DISCRIMINATOR_FILE


def tokenizer_start(config: PipelineConfig) -> Artifact | None:
    """The tokenizer that this config's training begins with.

    Raises:
        ArtifactMissing: there is no such tokenizer.
        ValueError: it is another architecture.
    """
    return _checked_tokenizer(config.store, config.tokenizer)


def prior_start(config: PipelineConfig) -> Artifact | None:
    """The prior that this config's training begins with; whether its tokens are those of the data, the stage checks.

    Raises:
        ArtifactMissing: there is no such prior.
        ValueError: it is another architecture.
    """
    return _checked_prior(config.store, config.prior)


def require_opened(name: str | None, start: Artifact | None) -> None:
    """Refuse a config whose start nobody has looked up: only the pipeline's own stages do.

    Raises:
        ValueError: init_from names an artifact and none is given, or the other way round.
    """
    if (name is None) != (start is None):
        raise ValueError(
            f"init_from {name}: only a pipeline begins with a trained model; in an experiment leave it null"
        )


def load_start(artifact: Artifact) -> TokenizerStart:
    """A tokenizer with the discriminator that was kept beside it."""
    has_discriminator = any(entry.path == DISCRIMINATOR_FILE for entry in artifact.manifest.files)
    discriminator = safetensors.torch.load(artifact.read(DISCRIMINATOR_FILE)) if has_discriminator else {}
    return TokenizerStart(load_tokenizer(artifact, torch.device("cpu")), discriminator)


def _checked_tokenizer(store: StoreConfig, config: TrainTokenizerConfig) -> Artifact | None:
    found = _named(store, config.init_from, "tokenizer")
    if found is not None:
        require_same_tokenizer(tokenizer_config(found), config)
    return found


def _checked_prior(store: StoreConfig, config: TrainPriorConfig) -> Artifact | None:
    found = _named(store, config.init_from, "prior")
    if found is not None:
        require_same_prior(prior_config(found)[0], None, config, None)
    return found


def _named(store: StoreConfig, name: str | None, kind: str) -> Artifact | None:
    """An artifact by fingerprint in this store, or by a URI, which may be in another one."""
    if name is None:
        return None
    root, separator, _ = name.rstrip("/").rpartition(f"/{kind}/")
    return find_artifact(Store.open(store.model_copy(update={"url": root}) if separator else store), name, kind)
