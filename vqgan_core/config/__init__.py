"""Configs of the science: one frozen pydantic model a stage, the same for YAML, command line and manifests."""

from vqgan_core.config.base import Config, ConfigError, ExecutionConfig, canonical_json, merge, sha256_json
from vqgan_core.config.conditions import BoxesCondition, ConditionConfig, CoordinatesCondition, PlaneCondition
from vqgan_core.config.evaluation import ClassifierConfig, EvaluateConfig
from vqgan_core.config.guidance import ConstantGuidance, GuidanceSchedule, IntervalGuidance, PowerCosineGuidance
from vqgan_core.config.layout import LayoutConfig
from vqgan_core.config.planes import EdgesPlane, ImagePlane, LowResolutionPlane, PlaneConfig, StoredPlane
from vqgan_core.config.prior import (
    EncodeConfig,
    OrderName,
    PriorConfig,
    PriorExecution,
    RandomOrderConfig,
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
from vqgan_core.config.sizes import PRIOR_SIZES, sized_prior
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
    "PRIOR_SIZES",
    "AugmentConfig",
    "AutoencoderConfig",
    "BoxesCondition",
    "ClassifierConfig",
    "ConditionConfig",
    "Config",
    "ConfigError",
    "ConstantGuidance",
    "CoordinatesCondition",
    "EdgesPlane",
    "EmaQuantizerConfig",
    "EncodeConfig",
    "EvaluateConfig",
    "ExecutionConfig",
    "FsqQuantizerConfig",
    "GuidanceSchedule",
    "GumbelQuantizerConfig",
    "ImagePlane",
    "IntervalGuidance",
    "LayoutConfig",
    "LfqQuantizerConfig",
    "LowResolutionPlane",
    "LpipsConfig",
    "NoAdversarialConfig",
    "NoPerceptualConfig",
    "OrderName",
    "PatchGanConfig",
    "PerturbationConfig",
    "PlaneCondition",
    "PlaneConfig",
    "PowerCosineGuidance",
    "PriorConfig",
    "PriorExecution",
    "PriorTrainingConfig",
    "QuantizerConfig",
    "RandomOrderConfig",
    "ResidualQuantizerConfig",
    "SampleConfig",
    "SampleExecution",
    "SamplingConfig",
    "SimvqQuantizerConfig",
    "StoredPlane",
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
    "sized_prior",
]
