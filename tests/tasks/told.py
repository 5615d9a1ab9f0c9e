"""Small pipelines over real images whose priors are told something: how they are configured, run and scored."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.store import Artifact, Store
from datasets.tokens import TokenDataset
from tasks.columns import reads
from tasks.config import PipelineConfig
from tasks.models import load_prior
from tasks.pipeline import Pipeline, steps_of
from tasks.stage import execute
from vqgan_core.prior import Prior

CPU = {"device": "cpu", "num_threads": 1}
CPU_DEVICE = torch.device("cpu")
NUM_SHUFFLES = 16


def tokenizer(size_px: int, num_levels: int, **fields: Any) -> dict[str, Any]:
    """A tokenizer of grey images with one downsampling a level, trained for a moment."""
    autoencoder = {
        "image_channels": 1, "resolution_px": size_px, "base_channels": 8, "num_res_blocks": 1, "num_groups": 4,
        "channel_multipliers": [1] * (num_levels + 1), "attention_resolutions": [], "latent_channels": 4,
    }  # fmt: skip
    return {
        "codebook_size": 64, "codebook_dim": 3, "quantizer": {"kind": "fsq", "levels": [4, 4, 4]},
        "autoencoder": autoencoder | fields.pop("autoencoder", {}),
        "loss": {"perceptual": "none", "adversarial": "none"},
        "training": {"num_steps": 40, "batch_size": 8, "learning_rate": 3e-3, "validate_every_steps": 40},
        "execution": CPU,
        **fields,
    }  # fmt: skip


def prior(**fields: Any) -> dict[str, Any]:
    """A prior of ten thousands of parameters."""
    training = {"num_steps": 600, "batch_size": 16, "learning_rate": 3e-3, "validate_every_steps": 100}
    return {
        "architecture": "gpt", "num_layers": 1, "num_heads": 2, "width": 32, "condition": "none",
        "training": training, "execution": CPU, **fields,
    }  # fmt: skip


def unpacked(archive: Path, folder: Path, every: int, classes: Sequence[str] = ()) -> Path:
    """Every so manieth image of a tar, of some of its folders if told."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        members = [member for member in members if not classes or Path(member.name).parent.name in classes]
        tar.extractall(folder, members=members[::every], filter="data")
    return folder


def run(config: PipelineConfig, last: str) -> dict[str, Artifact]:
    """Run the steps up to a stage with plain `execute`; the artifacts by step."""
    pipeline, made = Pipeline(config), {}
    for step in steps_of(config):
        made[step.name] = pipeline.store.get(execute(step.request(pipeline), pipeline.store))
        if step.name == last:
            break
    return made


@dataclass(frozen=True)
class Gain:
    """What being told the truth is worth: paired, over the held-out records."""

    nats: float
    """NLL a token with another record's condition, less that with a record's own; mean over records."""
    error: float
    """Standard error of that mean."""

    @property
    def is_no_chance(self) -> bool:
        """Whether it is more than three standard errors."""
        return self.nats > 3 * self.error


def gains(config: PipelineConfig, overrides: Mapping[str, Any], names: Sequence[str]) -> dict[str, Gain]:
    """Train a prior on the config's tokens, and shuffle one of its conditions (labels, or a column) after another."""
    told = PipelineConfig.validated(
        {**config.model_dump(mode="json"), "prior": prior(**overrides)}, origin="the test's config"
    )
    store = Store.open(told.store)
    artifact = store.get(execute(Pipeline(told).request("train_prior"), store))
    model, tokens = load_prior(artifact, CPU_DEVICE), TokenDataset.open(Pipeline(told).artifact("tokens"))
    views = [next(tokens.sequential("val", 10_000, view=view, **reads(model.config))) for view in tokens.views]
    batch = {name: torch.cat([view[name] for view in views]) for name in views[0]}
    return {name: _gain(model, batch, name, len(views)) for name in names}


@torch.no_grad()
def _gain(model: Prior, batch: Mapping[str, Tensor], name: str, num_views: int) -> Gain:
    generator, costs = torch.Generator().manual_seed(0), []
    for shuffle in range(1 + NUM_SHUFFLES):
        rows = batch[name][torch.randperm(len(batch[name]), generator=generator)] if shuffle else batch[name]
        told = {**batch, name: rows}
        costs.append(model.nll(batch["tokens"], told["labels"], columns=told).mean(1))
    each = (torch.stack(costs[1:]).mean(0) - costs[0]).double().view(num_views, -1).mean(0)
    return Gain(each.mean().item(), each.std().item() / len(each) ** 0.5)
