"""The config of the whole pipeline: one section a stage. It is the YAML schema and the command line's dotted keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from datasets.config import ImportTokensConfig, ShardConfig, StoreConfig
from datasets.plane_check import check_plane
from tasks.retrain_config import PromoteConfig, RetrainConfig
from vqgan_core.config import (
    Config,
    ConfigError,
    EncodeConfig,
    EvaluateConfig,
    PlaneCondition,
    SampleConfig,
    SweepConfig,
    TrainPriorConfig,
)
from vqgan_core.config import TrainTokenizerConfig as TokenizerConfig

_PUBLISHED = re.compile(r"[0-9a-f]{6,64}|.*/.*")
"""What can be a fingerprint's beginning, or a URI."""
PRESETS = Path(__file__).resolve().parents[1] / "flows" / "configs"


class PipelineConfig(Config):
    """images → corpus → tokenizer → tokens → prior → samples → evaluation."""

    name: str = Field("run", min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    """What the run is called in tables and reports; not part of any fingerprint."""
    store: StoreConfig = StoreConfig()
    """Where artifacts live."""
    stage_timeout_seconds: float | None = Field(None, gt=0)
    """Seconds after which a stage that is not done is interrupted, and tried again from where it was, three times.

    Null: it may take as long as it takes. Not part of any fingerprint."""
    shard: ShardConfig = ShardConfig()
    """Source and canonical form of the images."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The tokenizer and its training."""
    condition_tokenizers: dict[str, TokenizerConfig] = Field(default_factory=dict)
    """Tokenizers of what priors are told first, by a name that encode.conditions refer to."""
    encode: EncodeConfig = EncodeConfig()
    """How images become rows of tokens."""
    import_tokens: ImportTokensConfig = ImportTokensConfig()
    """Tokens from elsewhere, for priors that are to read those."""
    prior: TrainPriorConfig = TrainPriorConfig()
    """The prior and its training."""
    sample: SampleConfig = SampleConfig()
    """What is drawn from the prior."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """What is measured."""
    sweep: SweepConfig = SweepConfig()
    """Which settings of sampling `tessera sweep` tries."""
    promote: PromoteConfig = PromoteConfig()
    """When a candidate becomes current; not part of any fingerprint."""
    retrain: RetrainConfig = RetrainConfig()
    """What a scheduled retraining does; not part of any fingerprint."""

    @property
    def pointer(self) -> str:
        """The name that says what is current of this config."""
        return self.retrain.pointer or re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:63]

    @classmethod
    def preset(cls, name: str, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Self:
        """Load a preset by name (`digits`) or a YAML file by path, with dotted overrides.

        Raises:
            ConfigError: there is no such preset or file, or a value does not fit.
        """
        return cls.load(find_preset(name), overrides)

    @model_validator(mode="after")
    def _sections_fit_together(self) -> PipelineConfig:
        named = {f"condition_tokenizers.{name}": section for name, section in self.condition_tokenizers.items()}
        for name, section in {"tokenizer": self.tokenizer, **named}.items():
            _check_tokenizer(name, section, self.shard)
        return self

    @model_validator(mode="after")
    def _condition_tokenizers_are_named(self) -> PipelineConfig:
        for name, condition in self.encode.conditions.items():
            wanted = condition.tokenizer if isinstance(condition, PlaneCondition) else None
            if wanted and wanted not in self.condition_tokenizers and not _PUBLISHED.fullmatch(wanted):
                raise ValueError(
                    f"encode.conditions.{name}.tokenizer is {wanted!r}: allowed are the names in condition_tokenizers "
                    f"({', '.join(self.condition_tokenizers) or 'none'}), and fingerprints and URIs of tokenizers"
                )
        return self


def _check_tokenizer(name: str, section: TokenizerConfig, shard: ShardConfig) -> None:
    autoencoder = section.autoencoder
    check_plane(section, shard.channels, {pair: holds.holds for pair, holds in shard.pairs.items()})
    if section.window_px > shard.size_px:
        raise ValueError(
            f"{name}.autoencoder.resolution_px {autoencoder.resolution_px} needs images of {section.window_px} px, "
            f"which is larger than shard.size_px {shard.size_px}: images are never enlarged in training"
        )
    if autoencoder.resolution_px % section.size_multiple:
        levels = "channel_multipliers" if section.top is None else "channel_multipliers and top.factor"
        raise ValueError(
            f"{name}.autoencoder.resolution_px {autoencoder.resolution_px} is no multiple of the downsampling "
            f"factor {section.size_multiple}, which follows from {levels}"
        )


def find_preset(name: str, folder: Path = PRESETS) -> Path:
    """The YAML file of a preset name in a folder, or of a path.

    Raises:
        ConfigError: neither a file nor a preset; names the presets there are.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"there is no preset {name!r}: choose one of {known}, or give the path of a .yaml file")
    return path
