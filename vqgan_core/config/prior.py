"""Configs of the prior and of sampling from it. Sizes follow the original's minGPT; defaults are a small model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vqgan_core.config.base import Config, ExecutionConfig
from vqgan_core.config.training import PriorTrainingConfig, TrainingExecution


class PriorConfig(Config):
    """The decoder-only transformer; vocabulary, sequence length and classes come from the token dataset."""

    condition: Literal["none", "class"] = "class"
    """What the prior is told first."""
    num_layers: int = Field(12, ge=1)
    """Transformer layers."""
    num_heads: int = Field(12, ge=1)
    """Attention heads; must divide width."""
    width: int = Field(768, ge=1)
    """Model width."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of embeddings, attention and residual branches."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> PriorConfig:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide width {self.width}")
        return self


class TrainPriorConfig(PriorConfig):
    """Recipe and execution of the train_prior stage."""

    condition_dropout: float = Field(0.1, ge=0, le=1)
    """Share of records whose class is hidden in training, which makes classifier-free guidance possible."""
    training: PriorTrainingConfig = PriorTrainingConfig()
    """Optimiser, schedule and length."""
    execution: TrainingExecution = TrainingExecution()
    """How it runs; not part of the fingerprint."""

    def model(self) -> PriorConfig:
        """The part that is stored with the weights."""
        return PriorConfig(**{name: getattr(self, name) for name in PriorConfig.model_fields})


class SamplingConfig(Config):
    """How tokens are drawn. Order: guidance, temperature, top-k, top-p."""

    temperature: float = Field(1.0, ge=0)
    """Divides the logits; 0 is greedy."""
    top_k: int | None = Field(None, ge=1)
    """Keep exactly the k likeliest tokens; null: all."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Keep the smallest set of likeliest tokens with this mass; null: all."""
    guidance: float = Field(1.0, ge=0)
    """Classifier-free guidance scale; 1 is off, above 1 pushes towards the class."""


class SampleExecution(ExecutionConfig):
    """How sampling and other inference stages run."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto takes a GPU where there is one."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of PyTorch; null: its default."""
    batch_size: int = Field(64, ge=1)
    """Records computed at once."""


class SampleConfig(SamplingConfig):
    """Recipe and execution of the sample stage."""

    num_per_class: int = Field(20, ge=1)
    """Images of each class; without classes, images in all."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Image i is drawn from its own seed, derived from this and i alone."""
    images_per_shard: int = Field(100, ge=1)
    """Images a WebDataset shard: what a killed run loses at most."""
    execution: SampleExecution = SampleExecution()
    """How it runs; not part of the fingerprint."""


class EncodeConfig(Config):
    """Recipe and execution of the encode stage."""

    views: tuple[Literal["center", "center_flip"], ...] = Field(("center",), min_length=1)
    """Ways to look at an image, each a row: centre crop, or centre crop mirrored."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the encoder; the quantizer is always fp32."""
    execution: SampleExecution = SampleExecution()
    """How it runs; not part of the fingerprint."""
