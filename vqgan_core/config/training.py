"""Configs of a training run: optimiser, schedule, length, seed; and how it runs on a machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vqgan_core.config.base import Config, ExecutionConfig


class TrainingConfig(Config):
    """What both training stages share. A step is one optimiser step over batch_size records."""

    num_steps: int = Field(100_000, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(32, ge=1)
    """Records a step, over all processes and accumulated batches."""
    accumulate_batches: int = Field(1, ge=1)
    """Each step's batch is computed in this many equal pieces; must divide batch_size."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate; never scaled behind your back."""
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    """Course of the rate after the warm-up; wsd: constant, then a short fall at the end."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear rise from 0."""
    final_learning_rate_fraction: float = Field(0.1, ge=0, le=1)
    """Where cosine and wsd end, as a fraction of the peak."""
    decay_fraction: float = Field(0.2, gt=0, le=1)
    """Share of num_steps in which wsd falls."""
    gradient_clip: float | None = Field(1.0, gt=0)
    """Largest global gradient norm; null: no clipping."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the networks under autocast; the quantizer and the losses stay fp32."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Start of every random stream of the run."""
    validate_every_steps: int = Field(1000, ge=1)
    """Cadence of validation; the early stop counts in these."""
    num_validation_records: int = Field(512, ge=1)
    """The first so many records of the validation split, the same at every validation."""

    @model_validator(mode="after")
    def _pieces_are_equal(self) -> TrainingConfig:
        if self.batch_size % self.accumulate_batches:
            raise ValueError(
                f"accumulate_batches {self.accumulate_batches} does not divide batch_size {self.batch_size}; "
                "every piece of a step must have the same number of records"
            )
        return self


class TokenizerTrainingConfig(TrainingConfig):
    """Adam for autoencoder and discriminator, as in the original."""

    betas: tuple[float, float] = (0.5, 0.9)
    """Adam's decay rates."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of the exponential moving average of the weights, which is then what is published; null: none."""


class PriorTrainingConfig(TrainingConfig):
    """AdamW with decay on matrices only, as in the original."""

    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's decay rates."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay of linear weights; biases, norms and embeddings are not decayed."""
    early_stop_validations: int | None = Field(None, ge=1)
    """Stop after so many validations without a better NLL; the best weights are published either way. null: never."""


class TrainingExecution(ExecutionConfig):
    """How a training stage runs."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto takes a GPU where there is one."""
    num_threads: int | None = Field(None, ge=1)
    """CPU threads of PyTorch; null: its default."""
    checkpoint_every_steps: int = Field(500, ge=1)
    """A killed run repeats at most so many steps."""
    log_every_steps: int = Field(50, ge=1)
    """Cadence of progress messages."""
    activation_checkpointing: bool = False
    """Compute each layer's activations a second time instead of keeping them: a third slower, far less memory."""
    cache_bytes: int = Field(2 << 30, ge=0)
    """Decoded images kept in memory between epochs."""
    shard_cache_bytes: int = Field(50 << 30, ge=0)
    """Shards of a store on another machine kept on this one's disk, in TESSERA_CACHE; 0: every image is a request."""


class PriorTrainingExecution(TrainingExecution):
    """How a prior's training runs."""

    compile: bool = False
    """Let torch.compile fuse the network: a minute at first, then faster steps. On a CPU it needs a C++ compiler."""
    token_memory_bytes: int = Field(8 << 30, ge=0)
    """Token files that are larger than this together are not held in memory, but read as training comes to them."""
