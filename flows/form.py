"""From the few fields of a flow's form to a whole config: preset < TESSERA_STORE < plain fields < overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tasks.config import PipelineConfig

#: Where each plain field goes in the config.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "store": ("store.url",),
    "source": ("shard.source.url",),
    "size_px": ("shard.size_px", "tokenizer.autoencoder.resolution_px"),
    "codebook_size": ("tokenizer.codebook_size",),
    "tokenizer_steps": ("tokenizer.training.num_steps",),
    "tokenizer_batch_size": ("tokenizer.training.batch_size",),
    "tokenizer_learning_rate": ("tokenizer.training.learning_rate",),
    "prior_steps": ("prior.training.num_steps",),
    "prior_batch_size": ("prior.training.batch_size",),
    "prior_learning_rate": ("prior.training.learning_rate",),
    "num_per_class": ("sample.num_per_class",),
    "guidance": ("sample.guidance",),
    "seed": ("tokenizer.training.seed", "prior.training.seed", "sample.seed", "evaluate.seed"),
}


def config_of(preset: str, fields: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
    """The config that a filled form means; None leaves the preset's value, or the machine's store.

    Raises:
        ConfigError: the preset is unknown or a value does not fit.
    """
    values: dict[str, Any] = {}
    if url := os.environ.get("TESSERA_STORE"):
        values["store.url"] = url  # where, never what: that much the machine may say
    for name, value in fields.items():
        if value is None:
            continue
        if name == "source":
            values["shard.source.kind"] = "folder"
        values |= dict.fromkeys(FIELDS[name], value)
    return PipelineConfig.preset(preset, values | dict(overrides or {}))


def location_of(store: str | None) -> dict[str, Any]:
    """The override that a form's field of a store means."""
    return {"store.url": store} if store is not None else {}
