"""Configs of the science: one frozen pydantic model a stage, the same for YAML, command line and manifests."""

from vqgan_core.config.autoencoder import AutoencoderConfig, DvaeAutoencoderConfig
from vqgan_core.config.base import Config, ConfigError, ExecutionConfig, canonical_json, merge, sha256_json
from vqgan_core.config.comparison import CompareConfig
from vqgan_core.config.conditions import BoxesCondition, ConditionConfig, CoordinatesCondition, PlaneCondition
from vqgan_core.config.evaluation import (
    ClassifierConfig,
    EvaluateConfig,
    EvaluateExecution,
    PerturbedConfig,
    SweepConfig,
)
from vqgan_core.config.extractor import DinoV2Config, ExtractorConfig, InceptionConfig, MobileNetConfig
from vqgan_core.config.fan_out import FanOutConfig
from vqgan_core.config.guidance import ConstantGuidance, GuidanceSchedule, IntervalGuidance, PowerCosineGuidance
from vqgan_core.config.layout import LayoutConfig
from vqgan_core.config.planes import EdgesPlane, ImagePlane, LowResolutionPlane, PlaneConfig, StoredPlane
from vqgan_core.config.prior import (
    EncodeConfig,
    EncodeExecution,
    OrderName,
    PriorConfig,
    RandomOrderConfig,
    SampleConfig,
    SampleExecution,
    SamplingConfig,
    TrainPriorConfig,
    sized_prior,
)
from vqgan_core.config.protocol import PROTOCOLS, ProtocolConfig
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
from vqgan_core.config.sampling import (
    CompletionConfig,
    DomainRejection,
    MaskCompletion,
    RejectionConfig,
    TorchvisionRejection,
    UpperCompletion,
)
from vqgan_core.config.sizes import PRIOR_SIZES
from vqgan_core.config.tokenizer import (
    AugmentConfig,
    LpipsConfig,
    NoAdversarialConfig,
    NoPerceptualConfig,
    PatchGanConfig,
    PerturbationConfig,
    TokenizerConfig,
    TokenizerLossConfig,
    TopLevelConfig,
    TrainTokenizerConfig,
)
from vqgan_core.config.tokens import TokenSpec
from vqgan_core.config.training import (
    PriorTrainingConfig,
    PriorTrainingExecution,
    TokenizerTrainingConfig,
    TrainingConfig,
    TrainingExecution,
)

__all__ = [
    "PRIOR_SIZES",
    "PROTOCOLS",
    "AugmentConfig",
    "AutoencoderConfig",
    "BoxesCondition",
    "ClassifierConfig",
    "CompareConfig",
    "CompletionConfig",
    "ConditionConfig",
    "Config",
    "ConfigError",
    "ConstantGuidance",
    "CoordinatesCondition",
    "DinoV2Config",
    "DomainRejection",
    "DvaeAutoencoderConfig",
    "EdgesPlane",
    "EmaQuantizerConfig",
    "EncodeConfig",
    "EncodeExecution",
    "EvaluateConfig",
    "EvaluateExecution",
    "ExecutionConfig",
    "ExtractorConfig",
    "FanOutConfig",
    "FsqQuantizerConfig",
    "GuidanceSchedule",
    "GumbelQuantizerConfig",
    "ImagePlane",
    "InceptionConfig",
    "IntervalGuidance",
    "LayoutConfig",
    "LfqQuantizerConfig",
    "LowResolutionPlane",
    "LpipsConfig",
    "MaskCompletion",
    "MobileNetConfig",
    "NoAdversarialConfig",
    "NoPerceptualConfig",
    "OrderName",
    "PatchGanConfig",
    "PerturbationConfig",
    "PerturbedConfig",
    "PlaneCondition",
    "PlaneConfig",
    "PowerCosineGuidance",
    "PriorConfig",
    "PriorTrainingConfig",
    "PriorTrainingExecution",
    "ProtocolConfig",
    "QuantizerConfig",
    "RandomOrderConfig",
    "RejectionConfig",
    "ResidualQuantizerConfig",
    "SampleConfig",
    "SampleExecution",
    "SamplingConfig",
    "SimvqQuantizerConfig",
    "StoredPlane",
    "SweepConfig",
    "TokenSpec",
    "TokenizerConfig",
    "TokenizerLossConfig",
    "TokenizerTrainingConfig",
    "TopLevelConfig",
    "TorchvisionRejection",
    "TrainPriorConfig",
    "TrainTokenizerConfig",
    "TrainingConfig",
    "TrainingExecution",
    "UpperCompletion",
    "VectorQuantizerConfig",
    "canonical_json",
    "merge",
    "sha256_json",
    "sized_prior",
]
