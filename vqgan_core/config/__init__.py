"""Configs of the science: one frozen pydantic model a stage, the same for YAML, command line and manifests."""

from vqgan_core.config.base import Config, ConfigError, ExecutionConfig, canonical_json, merge, sha256_json
from vqgan_core.config.evaluation import ClassifierConfig, EvaluateConfig
from vqgan_core.config.prior import (
    EncodeConfig,
    PriorConfig,
    SampleConfig,
    SampleExecution,
    SamplingConfig,
    TrainPriorConfig,
)
from vqgan_core.config.quantizer import (
    EmaQuantizerConfig,
    FsqQuantizerConfig,
    GumbelQuantizerConfig,
    LfqQuantizerConfig,
    QuantizerConfig,
    ResidualQuantizerConfig,
    SimvqQuantizerConfig,
    VectorQuantizerConfig,
)
from vqgan_core.config.tokenizer import (
    AugmentConfig,
    AutoencoderConfig,
    LpipsConfig,
    NoAdversarialConfig,
    NoPerceptualConfig,
    PatchGanConfig,
    PerturbationConfig,
    TokenizerConfig,
    TokenizerLossConfig,
    TrainTokenizerConfig,
)
from vqgan_core.config.tokens import TokenSpec
from vqgan_core.config.training import (
    PriorTrainingConfig,
    TokenizerTrainingConfig,
    TrainingConfig,
    TrainingExecution,
)

__all__ = [
    "AugmentConfig",
    "AutoencoderConfig",
    "ClassifierConfig",
    "Config",
    "ConfigError",
    "EmaQuantizerConfig",
    "EncodeConfig",
    "EvaluateConfig",
    "ExecutionConfig",
    "FsqQuantizerConfig",
    "GumbelQuantizerConfig",
    "LfqQuantizerConfig",
    "LpipsConfig",
    "NoAdversarialConfig",
    "NoPerceptualConfig",
    "PatchGanConfig",
    "PerturbationConfig",
    "PriorConfig",
    "PriorTrainingConfig",
    "QuantizerConfig",
    "ResidualQuantizerConfig",
    "SampleConfig",
    "SampleExecution",
    "SamplingConfig",
    "SimvqQuantizerConfig",
    "TokenSpec",
    "TokenizerConfig",
    "TokenizerLossConfig",
    "TokenizerTrainingConfig",
    "TrainPriorConfig",
    "TrainTokenizerConfig",
    "TrainingConfig",
    "TrainingExecution",
    "VectorQuantizerConfig",
    "canonical_json",
    "merge",
    "sha256_json",
]
