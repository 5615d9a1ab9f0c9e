"""When a candidate may become current, and when new images are worth a retraining: thresholds, in no fingerprint."""

from __future__ import annotations

from pydantic import Field

from vqgan_core.config import ExecutionConfig


class PromoteConfig(ExecutionConfig):
    """Gates: a candidate becomes current only if it passes all of them."""

    min_usage: float = Field(0.2, ge=0, le=1)
    """Share of the codebook that held-out images have to use."""
    max_psnr_loss_db: float = Field(0.3, ge=0)
    """dB that reconstructions may be worse than those of the current tokenizer."""
    max_rfid_rise: float = Field(0.05, ge=0)
    """Share by which rFID, where it is measured, may be higher."""
    max_nll_rise: float = Field(0.02, ge=0)
    """Nats a token that the validation NLL may be higher; with another tokenizer, that the gain over per-position
    frequencies may be lower."""


class RetrainConfig(ExecutionConfig):
    """What a scheduled retraining does about new images."""

    pointer: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name that is promoted; null: the config's own name."""
    min_new_images: int = Field(1, ge=1)
    """With fewer new or vanished images than this, nothing is trained."""
    max_drift_bits: float = Field(0.15, gt=0, le=1)
    """Drift of the codes (see encode.execution.drift_warning_bits) above which the tokenizer is trained on, too."""
    prior_steps_fraction: float = Field(0.25, gt=0, le=1)
    """Steps that a continued prior trains, as a share of a new one's."""
    tokenizer_steps_fraction: float = Field(0.5, gt=0, le=1)
    """Steps that a continued tokenizer trains, as a share of a new one's."""
